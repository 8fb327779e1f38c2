import assert from 'node:assert/strict';
import fc from 'fast-check';
import { GSimclrSampler } from '../../../src/negatives/sampling/g-simclr';
import { Generator, scope, torch } from '../../../src/torch';
import { device } from '../../support/device';
import { epochOf, keepsTheContract } from './contract';

const pseudoLabels = Array.from({ length: 40 }, (_, row) => row % 7);

describe('GSimclrSampler', () => {
  keepsTheContract((shared) => new GSimclrSampler({ size: 40, clusters: 7, batchSize: 5, pseudoLabels, ...shared }), {
    remainder: 'drop',
  });

  it('never has two rows of a pseudo-class in a batch, and makes as many full batches as there can be', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 5, maxLength: 40 }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(),
        (more, batchSize, seed) => {
          const of = [0, 1, 2, 3, 4, ...more];
          const sampler = new GSimclrSampler({ size: of.length, clusters: 5, batchSize, pseudoLabels: of, seed });
          const batches = epochOf(sampler, 0);
          assert.equal(new Set(batches.flat()).size, batches.flat().length);
          for (const batch of batches) {
            assert.equal(batch.length, batchSize);
            assert.equal(new Set(batch.map((row) => of[row])).size, batchSize);
          }
          // The most batches b there can be: Σ min(rows of a class, b) ≥ b · batchSize.
          const sizes = [0, 1, 2, 3, 4].map((label) => of.filter((other) => other === label).length);
          let most = 0;
          while (sizes.reduce((sum, size) => sum + Math.min(size, most + 1), 0) >= (most + 1) * batchSize) most++;
          assert.equal(batches.length, most);
        },
      ),
      { numRuns: 80, seed: 1 },
    );
  });

  it('makes pseudo-classes by k-means', () => {
    scope(() => {
      const group = torch.arange(30, { dtype: 'float64', device }).remainder(3).unsqueeze(1);
      const noise = torch.rand([30, 1], { generator: new Generator({ seed: 1 }), dtype: 'float64' }).to({ device });
      const sampler = new GSimclrSampler({ size: 30, clusters: 3 });
      assert.throws(() => sampler.next(), /give pseudoLabels, or call refresh/);
      sampler.refresh(group.mul(100).add(noise));
      const batches = epochOf(sampler, 0);
      assert.equal(batches.length, 10);
      for (const batch of batches) assert.equal(new Set(batch.map((row) => row % 3)).size, 3);
    });
  });

  it('refuses what does not fit', () => {
    const make = (change: object) => () => new GSimclrSampler({ size: 40, clusters: 7, ...change });
    assert.throws(make({ batchSize: 8 }), /at most the 7 clusters, found 8/);
    assert.throws(make({ pseudoLabels: [1] }), /40 integers, found 1/);
    assert.throws(make({ pseudoLabels: pseudoLabels.map((label) => label + 1) }), /run from 0 to 6/);
  });
});
