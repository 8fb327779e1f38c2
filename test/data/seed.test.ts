import * as assert from 'node:assert/strict';
import { deriveSeed } from '../../src/data/seed';
import { InvalidArgumentError } from '../../src/torch/errors';

describe('deriveSeed', () => {
  it('is the same for the same numbers', () => {
    assert.equal(deriveSeed(3, 1, 4), deriveSeed(3, 1, 4));
  });

  it('is SplitMix64, halved, for a single number', () => {
    // The first output of the published generator from the state 0 is 0xe220a8397b1dcdaf.
    assert.equal(deriveSeed(0), 0xe220a8397b1dcdafn >> 1n);
  });

  it('differs for other seeds, other streams and other orders of them, and fits 63 bits', () => {
    const seeds = new Set<bigint>();
    for (let seed = 0; seed < 20; seed++) {
      seeds.add(deriveSeed(seed));
      for (let a = 0; a < 20; a++) for (let b = 0; b < 20; b++) seeds.add(deriveSeed(seed, a, b));
    }
    assert.equal(seeds.size, 20 + 8000);
    for (const seed of seeds) assert.ok(seed >= 0n && seed < 2n ** 63n);
  });

  it('rejects what is not a whole number from 0', () => {
    for (const wrong of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
      assert.throws(() => deriveSeed(wrong), InvalidArgumentError);
      assert.throws(() => deriveSeed(0, wrong), InvalidArgumentError);
    }
  });
});
