import assert from 'node:assert/strict';
import fc from 'fast-check';
import { RandomSampler } from '../../../src/negatives/sampling/random';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

describe('RandomSampler', () => {
  keepsTheContract((shared) => new RandomSampler({ size: 23, batchSize: 4, ...shared }));

  it('is a permutation in each epoch, and its shards are disjoint and complete when they can be', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(),
        (size, share, worldSize, seed) => {
          const options = { size: size * worldSize, batchSize: share * worldSize, seed };
          const ranks = upTo(worldSize).map((rank) => new RandomSampler({ ...options, shard: { rank, worldSize } }));
          for (const epoch of [0, 1]) {
            const rows = ranks.flatMap((rank) => epochOf(rank, epoch).flat());
            assert.deepEqual(ascending(rows), upTo(size * worldSize));
          }
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('leaves a short batch out on request', () => {
    const lengths = (dropLast: boolean) =>
      epochOf(new RandomSampler({ size: 7, batchSize: 3, dropLast }), 0).map((batch) => batch.length);
    assert.deepEqual(lengths(false), [3, 3, 1]);
    assert.deepEqual(lengths(true), [3, 3]);
    const sampler = new RandomSampler({ size: 2, batchSize: 3, dropLast: true });
    assert.throws(() => sampler.next(), /epoch 0 has not one batch/);
  });

  it('drops a batch of fewer rows than processes where it drops at all, at any place', () => {
    const shard = { rank: 0, worldSize: 2, remainder: 'drop' } as const;
    const sampler = new RandomSampler({ size: 9, batchSize: 4, shard });
    assert.equal(sampler.batchesPerEpoch, 2);
    assert.deepEqual(
      epochOf(sampler, 0).map((batch) => batch.length),
      [2, 2],
    );
    assert.equal(sampler.currentEpoch, 1);
  });

  it('refuses options that do not fit', () => {
    for (const batchSize of [0, 1.5]) assert.throws(() => new RandomSampler({ size: 3, batchSize }), /batchSize/);
    assert.throws(() => new RandomSampler({ size: 0, batchSize: 1 }), /number of rows/);
    const shard = { rank: 2, worldSize: 2 };
    assert.throws(() => new RandomSampler({ size: 3, batchSize: 1, shard }), /rank 2 is none of 2/);
  });
});
