import assert from 'node:assert/strict';

import { histogram } from '../../src/report';
import { InvalidArgumentError } from '../../src/torch/errors';

describe('histogram', () => {
  it('counts values in bins that hold their lower border', () => {
    const { edges, counts } = histogram([0, 0.5, 1, 1.5, 3.9, 4, 2], { minimum: 0, maximum: 4, bins: 4 });
    assert.deepEqual(edges, [0, 1, 2, 3, 4]);
    assert.deepEqual(counts, [2, 2, 1, 2]);
  });

  it('puts values outside into the outermost bins and skips NaN', () => {
    const { counts } = histogram(Float32Array.of(-9, 1.0000001, NaN, Infinity, -Infinity), { bins: 2 });
    assert.deepEqual(counts, [2, 2]);
  });

  it('covers cosine similarities in 80 bins by default', () => {
    const { edges, counts } = histogram([]);
    assert.equal(counts.length, 80);
    assert.equal(edges[0], -1);
    assert.equal(edges[80], 1);
  });

  it('refuses an empty range and no bins', () => {
    assert.throws(() => histogram([], { minimum: 1, maximum: 1 }), InvalidArgumentError);
    assert.throws(() => histogram([], { maximum: Infinity }), InvalidArgumentError);
    assert.throws(() => histogram([], { bins: 0 }), InvalidArgumentError);
  });
});
