import assert from 'node:assert/strict';
import fc from 'fast-check';
import { GroupByLabelSampler } from '../../../src/negatives/sampling/group-by-label';
import { epochOf, keepsTheContract } from './contract';

const labels = Array.from({ length: 33 }, (_, row) => row % 5);

describe('GroupByLabelSampler', () => {
  keepsTheContract((shared) => new GroupByLabelSampler({ labels, batchSize: 8, ...shared }));

  it('gives every row of a batch a positive and a negative', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 30 }),
        fc.integer({ min: 2, max: 5 }),
        fc.nat(),
        (more, half, seed) => {
          const of = [0, 0, 1, 1, ...more];
          const batches = epochOf(new GroupByLabelSampler({ labels: of, batchSize: 2 * half, seed }), 0);
          assert.equal(new Set(batches.flat()).size, batches.flat().length);
          batches.forEach((batch, step) => {
            assert.ok(batch.length === 2 * half || step === batches.length - 1);
            for (const row of batch) {
              const same = batch.filter((other) => of[other] === of[row]).length;
              assert.ok(same >= 2 && same < batch.length);
            }
          });
          // All pairs are used, but for what is left of one label, or for a single pair.
          const used = (label: number) => batches.flat().filter((row) => of[row] === label).length;
          const left = [...new Set(of)].filter(
            (label) => used(label) < 2 * Math.floor(of.filter((other) => other === label).length / 2),
          );
          assert.ok(left.length <= 1);
        },
      ),
      { numRuns: 100, seed: 1 },
    );
  });

  it('leaves another odd row out each time', () => {
    const sampler = new GroupByLabelSampler({ labels: [0, 0, 0, 1, 1], batchSize: 4 });
    const left = new Set(
      Array.from(
        { length: 30 },
        (_, epoch) =>
          3 -
          epochOf(sampler, epoch)[0]!
            .filter((r) => r < 3)
            .reduce((a, b) => a + b),
      ),
    );
    assert.deepEqual([...left].sort(), [0, 1, 2]);
  });

  it('refuses what can make no batch', () => {
    const make =
      (of: number[], batchSize = 4) =>
      () =>
        new GroupByLabelSampler({ labels: of, batchSize });
    assert.throws(make([0, 0, 1]), /at least two labels of at least two rows/);
    for (const batchSize of [2, 5]) assert.throws(make([0, 0, 1, 1], batchSize), /even number from 4/);
  });
});
