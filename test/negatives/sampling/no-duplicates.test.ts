import assert from 'node:assert/strict';
import fc from 'fast-check';
import { NoDuplicatesSampler } from '../../../src/negatives/sampling/no-duplicates';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

const keys = Array.from({ length: 30 }, (_, row) => [`query ${row}`, `answer ${row % 8}`]);

describe('NoDuplicatesSampler', () => {
  keepsTheContract((shared) => new NoDuplicatesSampler({ keys, batchSize: 5, ...shared }), { remainder: 'drop' });

  it('never lets a key come twice in a batch, and gives each row once', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.constantFrom('a', 'b', 'c', 'd', 1, 2, 3, 4, 5), { maxLength: 2 }), {
          minLength: 1,
          maxLength: 25,
        }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(),
        (of, batchSize, seed) => {
          const batches = epochOf(new NoDuplicatesSampler({ keys: of, batchSize, seed }), 0);
          assert.deepEqual(ascending(batches.flat()), upTo(of.length));
          for (const batch of batches) {
            assert.ok(batch.length <= batchSize && batch.length > 0);
            const all = batch.flatMap((row) => [...new Set(of[row])]);
            assert.equal(new Set(all).size, all.length);
          }
        },
      ),
      { numRuns: 80, seed: 1 },
    );
  });

  it('fills a batch whenever there are rows that fit', () => {
    const batches = epochOf(
      new NoDuplicatesSampler({ keys: ['a', 'a', 'a', 'b', 'c', 'd'], batchSize: 2, seed: 2 }),
      0,
    );
    batches.forEach((batch, step) => {
      if (batch.length === 2) return;
      const later = batches.slice(step + 1).flat();
      const texts = ['a', 'a', 'a', 'b', 'c', 'd'];
      assert.ok(later.every((row) => texts[row] === texts[batch[0]!]));
    });
  });

  it('tells texts from numbers, and drops short batches on request', () => {
    assert.equal(epochOf(new NoDuplicatesSampler({ keys: ['1', 1], batchSize: 2 }), 0).length, 1);
    const sampler = new NoDuplicatesSampler({ keys: [1, 1, 1, 2], batchSize: 2, dropLast: true });
    assert.equal(sampler.batchesPerEpoch, 1);
    assert.throws(() => new NoDuplicatesSampler({ keys: [null as never], batchSize: 2 }), /found object in row 0/);
  });
});
