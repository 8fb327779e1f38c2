import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BatchBindingSampler } from '../../../src/negatives/sampling/batch-binding';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

const labels = [5, 5, 5, 5, 5, 9, 9, 9, 2, 2, 7, 7, 7, 7, 7, 7, 7];

describe('BatchBindingSampler', () => {
  keepsTheContract((shared) => new BatchBindingSampler({ labels, batchSize: 4, ...shared }));

  it('appends the same rows of every class to every batch, and sees every other row once an epoch', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 12, maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 2 }),
        fc.nat(),
        (of, batchSize, perClass, seed) => {
          const classes = [...new Set(of)];
          fc.pre(classes.every((label) => of.filter((other) => other === label).length > perClass));
          const sampler = new BatchBindingSampler({ labels: of, batchSize, perClass, seed });
          const binding = Array.from(sampler.binding);
          assert.equal(new Set(binding).size, binding.length);
          for (const label of classes) {
            assert.equal(binding.filter((row) => of[row] === label).length, perClass);
          }
          for (const epoch of [0, 1]) {
            const batches = epochOf(sampler, epoch);
            for (const batch of batches) assert.deepEqual(batch.slice(-binding.length), binding);
            const others = batches.flatMap((batch) => batch.slice(0, -binding.length));
            assert.deepEqual(ascending([...others, ...binding]), upTo(of.length));
            assert.ok(batches.every((batch) => batch.length <= batchSize + binding.length));
          }
        },
      ),
      { numRuns: 40, seed: 1 },
    );
  });

  it('takes binding rows, and leaves a short batch out on request', () => {
    const sampler = new BatchBindingSampler({ labels, batchSize: 4, binding: [16, 8, 5, 0], dropLast: true });
    assert.deepEqual(Array.from(sampler.binding), [16, 8, 5, 0]);
    assert.deepEqual(epochOf(sampler, 0).map((batch) => batch.length), [8, 8, 8]); // prettier-ignore
  });

  it('draws other rows for other seeds', () => {
    const drawn = upTo(10).map((seed) => new BatchBindingSampler({ labels, batchSize: 4, seed }).binding.join());
    assert.ok(new Set(drawn).size > 3);
  });

  it('refuses what does not fit', () => {
    const make = (options: object) => new BatchBindingSampler({ labels, batchSize: 4, ...options });
    assert.throws(() => make({ perClass: 3 }), /perClass is 3, but class 2 has 2 rows/);
    assert.throws(() => make({ binding: [0, 5, 8] }), /a row of each of the 4 classes, found rows of 3/);
    assert.throws(() => make({ binding: [0, 0, 5, 8, 16] }), /different rows from 0 to 16/);
    assert.throws(() => make({ binding: [0, 5, 8, 17] }), /found 17/);
    assert.throws(() => make({ binding: [0, 5, 8, 16], perClass: 1 }), /not both/);
    assert.throws(() => make({ batchSize: 0 }), /batchSize/);
    assert.throws(() => make({ labels: [1, 2] }), /too few for a batch/);
    const state = make({}).stateDict();
    assert.throws(() => make({ binding: [0, 5, 8, 16] }).loadStateDict(state), /labels/);
  });
});
