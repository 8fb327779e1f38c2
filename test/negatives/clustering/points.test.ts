import assert from 'node:assert/strict';
import { clusterSums, nearest, withoutEmpty } from '../../../src/negatives/clustering/points';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { device } from '../../support/device';
import { nearestOf, rowsOf, squared } from './plain';

const random = (shape: number[], seed: number): Tensor =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });
const vector = (values: number[]) => torch.tensor(values, { dtype: 'float64', device });
const positions = (values: number[]) => torch.tensor(values, { dtype: 'int64', device });

describe('points and centroids', () => {
  it('finds the nearest centroid in blocks of any size, of several the first', () => {
    scope(() => {
      for (const [count, clusters] of [
        [1, 1],
        [3, 2],
        [127, 9],
      ] as const) {
        const points = random([count, 4], 1);
        const centroids = random([clusters, 4], 2);
        const [rows, own] = [rowsOf(points), rowsOf(centroids)];
        const expected = rows.map((row) => nearestOf(row, own));
        for (const atOnce of [1, 50, 1 << 20]) {
          const { assignments, distances } = nearest(points, centroids, atOnce);
          assert.deepEqual(numbers(assignments), expected);
          const apart = rows.map((row, i) => squared(row, own[expected[i]!]!));
          assertClose(distances, vector(apart), { atol: 1e-12 });
        }
      }
      const ties = nearest(vector([1, 5]).unsqueeze(1), vector([3, 0, 2, 3]).unsqueeze(1), 100);
      assert.deepEqual(numbers(ties.assignments), [1, 0]);
    });
  });

  it('sums the points of each cluster in blocks', () => {
    scope(() => {
      const points = random([50, 3], 3);
      const owners = rowsOf(points).map((_, row) => (row * row) % 7);
      const expected = [0, 1, 2, 3, 4, 5, 6].map((cluster) =>
        [0, 1, 2].map((column) =>
          rowsOf(points).reduce((sum, row, i) => sum + (owners[i] === cluster ? row[column]! : 0), 0),
        ),
      );
      for (const atOnce of [1, 40, 1 << 20]) {
        const sums = clusterSums(points, positions(owners), 7, atOnce);
        assertClose(sums, torch.tensor(expected, { dtype: 'float64', device }), { atol: 1e-12 });
      }
    });
  });

  it('gives an empty cluster the furthest point that does not stand alone', () => {
    scope(() => {
      const moved = (owners: number[], distances: number[], clusters: number) =>
        numbers(withoutEmpty(positions(owners), vector(distances), clusters));
      // The furthest point is alone in cluster 0, the next in cluster 1 has others beside it.
      assert.deepEqual(moved([0, 1, 1, 1], [9, 1, 5, 2], 3), [0, 1, 2, 1]);
      assert.deepEqual(moved([1, 1, 1, 1], [1, 2, 3, 4], 3), [1, 1, 2, 0]);
      // Points that lie on their centroids stay there.
      assert.deepEqual(moved([0, 0, 0], [0, 0, 0], 3), [0, 0, 0]);
      assert.deepEqual(moved([0, 1], [1, 1], 2), [0, 1]);
    });
  });
});
