import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MPerClassSampler } from '../../../src/negatives/sampling/m-per-class';
import { epochOf, keepsTheContract } from './contract';

const labels = [5, 5, 5, 5, 5, 9, 9, 9, 2, 2, 7, 7, 7, 7, 7, 7, 7];

describe('MPerClassSampler', () => {
  keepsTheContract((shared) => new MPerClassSampler({ labels, classesPerBatch: 2, samplesPerClass: 3, ...shared }));

  it('gives K rows of each of P classes, classes and rows dealt evenly', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 3, maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(),
        (of, p, k, seed) => {
          const classes = [...new Set(of)];
          const classesPerBatch = Math.min(p, classes.length);
          const sampler = new MPerClassSampler({ labels: of, classesPerBatch, samplesPerClass: k, batches: 9, seed });
          const used = new Map(classes.map((label) => [label, 0]));
          const times = new Array<number>(of.length).fill(0);
          for (const batch of epochOf(sampler, 0)) {
            const drawn = new Map<number, number[]>();
            for (const row of batch) drawn.set(of[row]!, [...(drawn.get(of[row]!) ?? []), row]);
            assert.equal(drawn.size, classesPerBatch);
            for (const [label, rows] of drawn) {
              assert.equal(rows.length, k);
              const size = of.filter((other) => other === label).length;
              assert.equal(new Set(rows).size, Math.min(size, k));
              used.set(label, used.get(label)! + 1);
              rows.forEach((row) => times[row]!++);
            }
          }
          const counts = [...used.values()];
          assert.ok(Math.max(...counts) - Math.min(...counts) <= 1);
          for (const label of classes) {
            const own = times.filter((_, row) => of[row] === label);
            assert.ok(Math.max(...own) - Math.min(...own) <= 1);
          }
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('has as many batches as make up the data, unless told', () => {
    const make = (batches?: number) =>
      new MPerClassSampler({ labels, classesPerBatch: 2, samplesPerClass: 3, batches });
    assert.equal(make().batchesPerEpoch, 3);
    assert.equal(make(5).batchesPerEpoch, 5);
  });

  it('refuses more classes a batch than there are, and other labels in a state', () => {
    const make = (of: number[], classesPerBatch = 2) =>
      new MPerClassSampler({ labels: of, classesPerBatch, samplesPerClass: 1 });
    assert.throws(() => make([1, 1, 2], 3), /at most the 2 classes, found 3/);
    const state = make([1, 1, 2]).stateDict();
    assert.throws(() => make([1, 2, 2]).loadStateDict(state), /labels/);
  });
});
