import assert from 'node:assert/strict';
import { RandomSampler } from '../../../src/negatives/sampling/random';
import { ShuffleSampler, type ShuffleSamplerOptions } from '../../../src/negatives/sampling/shuffle';
import { InvalidArgumentError } from '../../../src/torch';
import { ascending, epochOf, keepsTheContract, saved, take, upTo } from './contract';

const make = (options: Partial<ShuffleSamplerOptions> = {}): ShuffleSampler =>
  new ShuffleSampler({ size: 23, batchSize: 4, mode: 'single-shuffle', seed: 3, ...options });

describe('ShuffleSampler with random reshuffling', () => {
  keepsTheContract((shared) => make({ mode: 'random-reshuffle', ...shared }));

  it('is RandomSampler', () => {
    const random = new RandomSampler({ size: 23, batchSize: 4, seed: 3 });
    assert.deepEqual(take(make({ mode: 'random-reshuffle' }), 14), take(random, 14));
  });
});

describe('ShuffleSampler with a single shuffle', () => {
  it('has the same batches in every epoch, those of the other mode in the first', () => {
    const sampler = make();
    const first = epochOf(sampler, 0);
    assert.deepEqual(ascending(first.flat()), upTo(23));
    for (const epoch of [1, 7]) assert.deepEqual(epochOf(sampler, epoch), first);
    assert.deepEqual(epochOf(make({ mode: 'random-reshuffle' }), 0), first);
    assert.notDeepEqual(epochOf(make({ seed: 4 }), 0), first);
    assert.equal(epochOf(make({ dropLast: true }), 0).length, 5);
  });

  it('goes on bit for bit from anywhere, and shares batches out by rank', () => {
    const all = take(make(), 14);
    for (let stop = 0; stop < 10; stop++) {
      const before = make();
      take(before, stop);
      const after = make();
      after.loadStateDict(saved(before));
      assert.deepEqual(take(after, 14 - stop), all.slice(stop));
    }
    const ranks = [0, 1].map((rank) => epochOf(make({ shard: { rank, worldSize: 2 } }), 3));
    epochOf(make(), 3).forEach((batch, step) => {
      const parts = ranks.flatMap((rank) => rank[step]!);
      assert.deepEqual(parts.slice(0, batch.length), batch);
    });
  });

  it('refuses the state of another mode, and unknown modes', () => {
    const state = saved(make());
    assert.throws(() => make({ mode: 'random-reshuffle' }).loadStateDict(state), /mode "single-shuffle"/);
    const mode = 'shuffle' as ShuffleSamplerOptions['mode'];
    assert.throws(() => make({ mode }), { constructor: InvalidArgumentError, message: /found 'shuffle'/ });
  });
});
