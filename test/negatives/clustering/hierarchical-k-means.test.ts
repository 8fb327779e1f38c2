import assert from 'node:assert/strict';
import { hierarchicalKMeans } from '../../../src/negatives/clustering/hierarchical-k-means';
import { Generator, memory, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { nearestOf, rowsOf } from './plain';

const random = (shape: number[], seed = 1): Tensor =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });

describe('hierarchicalKMeans', () => {
  it('clusters points, then the centroids, each by its nearest', () => {
    scope(() => {
      for (const resampleBy of ['closest', 'random'] as const) {
        const points = random([150, 2]);
        const levels = hierarchicalKMeans(points, { clusters: [20, 6, 2], resamples: 2, resampleSize: 3, resampleBy });
        assert.deepEqual(
          levels.map(({ centroids, assignments }) => [centroids.shape[0], assignments.shape[0]]),
          [
            [20, 150],
            [6, 20],
            [2, 6],
          ],
        );
        let below = rowsOf(points);
        for (const { centroids, assignments } of levels) {
          const own = rowsOf(centroids);
          assert.deepEqual(
            numbers(assignments),
            below.map((row) => nearestOf(row, own)),
          );
          below = own;
        }
      }
    });
  });

  it('spreads centroids more evenly by resampling', () => {
    scope(() => {
      // 1,000 points in a square, 100 in another as large.
      const uniform = torch.rand([1100, 2], { generator: new Generator({ seed: 2 }), dtype: 'float64' }).to({ device });
      const shift = torch.tensor(
        [
          [0, 0],
          [5, 0],
        ],
        { dtype: 'float64', device },
      );
      const which = torch.arange(1100, { device }).ge(1000).to({ dtype: 'int64' });
      const points = uniform.add(shift.indexSelect(0, which));
      const inSparse = (resamples: number) => {
        const options = { clusters: [20], resamples, resampleSize: 4, resampleBy: 'random' } as const;
        const [level] = hierarchicalKMeans(points, options);
        return rowsOf(level!.centroids).filter(([x]) => x! > 3).length;
      };
      assert.ok(inSparse(0) < 7, String(inSparse(0)));
      assert.ok(inSparse(8) > inSparse(0) + 2, `${inSparse(8)} after ${inSparse(0)}`);
    });
  });

  it('follows from its seed, and does not leak', () => {
    const points = random([60, 2]);
    const make = (seed: number) =>
      hierarchicalKMeans(points, { clusters: [9, 3], seed, resamples: 1, resampleSize: 2 });
    scope(() => {
      assert.ok(make(1)[0]!.centroids.equal(make(1)[0]!.centroids));
      assert.ok(!make(1)[0]!.centroids.equal(make(2)[0]!.centroids));
    });
    const before = memory().liveTensors;
    const levels = make(1);
    assert.equal(memory().liveTensors, before + 4);
    for (const { centroids, assignments } of levels) [centroids, assignments].forEach((tensor) => tensor.dispose());
    points.dispose();
  });

  it('refuses levels that do not fit', () => {
    scope(() => {
      const points = random([10, 2]);
      const make = (options: object) => () =>
        hierarchicalKMeans(points, { clusters: [4, 2], resamples: 1, ...options });
      assert.throws(make({ clusters: [4, 5] }), /level 1 can't make 5 clusters of 4/);
      assert.throws(make({ clusters: [] }), /one number for each level/);
      assert.throws(make({ resampleSize: [1] }), /one number for each level, found 2 and 1/);
      assert.throws(make({ resampleBy: 'x' }), /resampleBy must be/);
    });
  });
});
