import assert from 'node:assert/strict';
import fc from 'fast-check';
import { balancedKMeans } from '../../../src/negatives/clustering/balanced-k-means';
import { Generator, memory, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { device } from '../../support/device';
import { meanOf, rowsOf, squared } from './plain';

const random = (shape: number[], seed = 1): Tensor =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });

describe('balancedKMeans', () => {
  it('makes clusters of equal size up to one, for any numbers, tiled or not', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 60 }),
        fc.constantFrom(1, 40, 1 << 24),
        (count, wanted, valuesAtOnce) =>
          scope(() => {
            const clusters = Math.min(count, wanted);
            const points = random([count, 2], count);
            const { assignments, centroids } = balancedKMeans(points, { clusters, valuesAtOnce });
            const owners = numbers(assignments);
            const sizes = Array.from({ length: clusters }, (_, of) => owners.filter((owner) => owner === of).length);
            assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1, String(sizes));
            const rows = rowsOf(points);
            const means = sizes.map((_, of) => meanOf(rows.filter((_row, i) => owners[i] === of)));
            assertClose(centroids, torch.tensor(means, { dtype: 'float64', device }), { atol: 1e-10 });
          }),
      ),
      { numRuns: 40, seed: 1 },
    );
  });

  it('halves as a loop does', () => {
    scope(() => {
      for (let seed = 0; seed < 12; seed++) {
        const points = random([21, 3], seed);
        const rows = rowsOf(points);
        const owners = numbers(balancedKMeans(points, { clusters: 2, iterations: 100, seed }).assignments);
        // At the end: sorting by the difference of distances to both means gives the same halves.
        const side = (of: number) => meanOf(rows.filter((_, row) => owners[row] === of));
        const [a, b] = [side(0), side(1)];
        const gains = rows.map((row) => squared(row, b) - squared(row, a));
        const order = gains.map((_, row) => row).sort((x, y) => gains[y]! - gains[x]!);
        assert.deepEqual(
          order.slice(0, 10).sort((x, y) => x - y),
          owners.flatMap((owner, row) => (owner === 0 ? [row] : [])),
        );
      }
    });
  });

  it('finds groups of equal size, and is far better than random ones', () => {
    scope(() => {
      const centers = torch.tensor(
        [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [1000 * (i & 1), 300 * (i & 2), 40 * (i & 4)]),
        { dtype: 'float64', device },
      );
      const points = centers.repeatInterleave(9, 0).add(random([72, 3], 2));
      const owners = numbers(balancedKMeans(points, { clusters: 8 }).assignments);
      for (let group = 0; group < 8; group++) assert.equal(new Set(owners.slice(group * 9, group * 9 + 9)).size, 1);
      assert.equal(new Set(owners).size, 8);
    });
  });

  it('follows from its seed; clusters by angle on request', () => {
    scope(() => {
      const points = random([64, 4], 3);
      const make = (seed: number) => balancedKMeans(points, { clusters: 8, seed }).assignments;
      assert.ok(make(1).equal(make(1)));
      assert.ok(!make(1).equal(make(2)));
      const lengths = torch.arange(1, 65, { dtype: 'float64', device }).unsqueeze(1);
      const [one, scaled] = [points, points.mul(lengths)].map((of) =>
        balancedKMeans(of, { clusters: 8, spherical: true }),
      );
      assert.ok(one!.assignments.equal(scaled!.assignments));
      assertClose(one!.centroids.square().sum([1]), torch.ones([8], { dtype: 'float64', device }), { atol: 1e-12 });
    });
  });

  it('refuses what it can not cluster, and does not leak', () => {
    const points = random([6, 2]);
    assert.throws(() => balancedKMeans(points, { clusters: 7 }), /7 clusters need at least as many points, found 6/);
    assert.throws(() => balancedKMeans(points, { clusters: 0 }), /clusters must be an integer/);
    const before = memory().liveTensors;
    const { assignments, centroids } = balancedKMeans(points, { clusters: 3 });
    assert.equal(memory().liveTensors, before + 2);
    for (const tensor of [assignments, centroids, points]) tensor.dispose();
  });
});
