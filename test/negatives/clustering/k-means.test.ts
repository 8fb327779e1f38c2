import assert from 'node:assert/strict';
import fc from 'fast-check';
import { KMeans, kMeans } from '../../../src/negatives/clustering/k-means';
import { Generator, InvalidArgumentError, memory, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { device } from '../../support/device';
import { meanOf, nearestOf, rowsOf, squared } from './plain';

const random = (shape: number[], seed = 1, dtype: 'float32' | 'float64' = 'float64'): Tensor =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype }).to({ device });

const inertiaOf = (rows: number[][], centroids: number[][]): number =>
  rows.reduce((sum, row) => sum + squared(row, centroids[nearestOf(row, centroids)]!), 0);

describe('KMeans', () => {
  it('ends where no point and no centroid would move in a loop', () => {
    scope(() => {
      for (const [count, clusters] of [
        [1, 1],
        [2, 2],
        [3, 2],
        [37, 4],
        [200, 7],
      ] as const) {
        for (const distancesAtOnce of [1, 100, undefined]) {
          const points = random([count, 3], count);
          const means = new KMeans({ clusters, tolerance: 0, iterations: 1000, distancesAtOnce });
          const fit = means.fit(points);
          const [rows, centroids] = [rowsOf(points), rowsOf(fit.centroids)];
          const assignments = numbers(fit.assignments);
          assert.ok(fit.converged);
          assert.deepEqual(
            assignments,
            rows.map((row) => nearestOf(row, centroids)),
          );
          centroids.forEach((centroid, cluster) => {
            const own = rows.filter((_, row) => assignments[row] === cluster);
            assert.ok(squared(centroid, meanOf(own)) < 1e-20);
          });
          assert.ok(Math.abs(fit.inertia - inertiaOf(rows, centroids)) < 1e-9);
          assert.equal(means.inertia(points), fit.inertia);
          assert.deepEqual(numbers(means.predict(points)), assignments);
        }
      }
    });
  });

  it('takes the very steps of a loop from the same start', () => {
    scope(() => {
      const points = random([60, 2], 5);
      const rows = rowsOf(points);
      const options = { clusters: 5, tolerance: 0, seed: 4 };
      let centroids = rowsOf(kMeans(points, { ...options, iterations: 0 }).centroids);
      for (const centroid of centroids) assert.ok(rows.some((row) => squared(row, centroid) === 0));
      for (let iterations = 1; iterations <= 4; iterations++) {
        const owners = rows.map((row) => nearestOf(row, centroids));
        centroids = centroids.map((_, cluster) => meanOf(rows.filter((_row, i) => owners[i] === cluster)));
        const fit = kMeans(points, { ...options, iterations });
        assertClose(fit.centroids, torch.tensor(centroids, { dtype: 'float64', device }), { atol: 1e-10 });
        assert.ok(Math.abs(fit.inertia - inertiaOf(rows, centroids)) < 1e-9);
      }
    });
  });

  it('is the same bit for bit for one seed, another for another', () => {
    scope(() => {
      const points = random([500, 4], 2, 'float32');
      const [a, b, c] = [1, 1, 2].map((seed) => kMeans(points, { clusters: 9, seed, iterations: 3 }));
      assert.ok(a!.centroids.equal(b!.centroids) && a!.assignments.equal(b!.assignments));
      assert.ok(!a!.centroids.equal(c!.centroids));
      assert.equal(a!.centroids.dtype, 'float32');
    });
  });

  it('draws first centroids by squared distance (k-means++)', () => {
    scope(() => {
      // From the first point at 0 the others are 1 and 2 away: 1/5 and 4/5. From 1: 1/2 each. From 2: 4/5 and 1/5.
      const points = torch.tensor([[0], [1], [2]], { dtype: 'float64', device });
      const pairs = new Map<string, number>();
      const runs = 600;
      for (let seed = 0; seed < runs; seed++) {
        const fit = kMeans(points, { clusters: 2, trials: 1, iterations: 0, seed });
        const key = numbers(fit.centroids).join();
        pairs.set(key, (pairs.get(key) ?? 0) + 1);
      }
      for (const [key, share] of Object.entries({ '0,1': 1 / 15, '0,2': 4 / 15, '1,0': 1 / 6, '2,0': 4 / 15 })) {
        assert.ok(Math.abs((pairs.get(key) ?? 0) / runs - share) < 0.06, `${key}: ${pairs.get(key)}`);
      }
      assert.equal(
        [...pairs.keys()].some((key) => ['0,0', '1,1', '2,2'].includes(key)),
        false,
      );
    });
  });

  it('finds separate groups by greedy k-means++ where random starts need luck, and keeps the best of several', () => {
    scope(() => {
      const centers = torch.tensor(
        Array.from({ length: 12 }, (_, i) => [100 * (i % 4), 100 * Math.floor(i / 4)]),
        { dtype: 'float64', device },
      );
      const points = centers.repeatInterleave(20, 0).add(random([240, 2], 3));
      for (let seed = 0; seed < 5; seed++) {
        const { assignments } = kMeans(points, { clusters: 12, seed });
        const groups = numbers(assignments);
        for (let group = 0; group < 12; group++)
          assert.equal(new Set(groups.slice(group * 20, group * 20 + 20)).size, 1);
        assert.equal(new Set(groups).size, 12);
      }
      const options = { clusters: 12, initialization: 'random', seed: 1 } as const;
      const one = kMeans(points, options).inertia;
      assert.ok(kMeans(points, { ...options, restarts: 5 }).inertia < one);
    });
  });

  it('fills clusters that lost all their points', () => {
    scope(() => {
      for (let seed = 0; seed < 20; seed++) {
        const points = torch.cat([torch.zeros([30, 2], { dtype: 'float64', device }), random([10, 2], seed)]);
        const { assignments } = kMeans(points, { clusters: 10, initialization: 'random', seed, tolerance: 0 });
        assert.equal(new Set(numbers(assignments)).size, 10);
      }
    });
  });

  it('copes with fewer different points than clusters', () => {
    scope(() => {
      const points = torch.tensor(
        [
          [1, 2],
          [1, 2],
          [3, 4],
          [1, 2],
        ],
        { dtype: 'float64', device },
      );
      for (const initialization of ['k-means++', 'random'] as const) {
        const fit = kMeans(points, { clusters: 4, initialization });
        assert.equal(fit.inertia, 0);
        assert.equal(new Set(numbers(fit.assignments)).size, 2);
        assert.ok(rowsOf(fit.centroids).flat().every(Number.isFinite));
      }
    });
  });

  it('clusters by angle on the sphere', () => {
    scope(() => {
      const directions = [
        [1, 0],
        [0, 1],
        [-1, -1],
      ];
      const points = torch.tensor(
        directions.flatMap(([x, y]) => [1, 5, 100].map((length) => [x! * length, y! * length + 0.01])),
        { dtype: 'float64', device },
      );
      const means = new KMeans({ clusters: 3, spherical: true });
      const fit = means.fit(points);
      const groups = numbers(fit.assignments);
      for (let group = 0; group < 3; group++) assert.equal(new Set(groups.slice(group * 3, group * 3 + 3)).size, 1);
      assertClose(fit.centroids.square().sum([1]), torch.ones([3], { dtype: 'float64', device }), { atol: 1e-12 });
      assert.deepEqual(numbers(means.predict(points.mul(7))), groups);
    });
  });

  it('loses no digits far from zero', () => {
    scope(() => {
      const near = random([80, 2], 6, 'float32');
      const far = near.add(4096);
      const back = far.sub(4096);
      const options = { clusters: 4, tolerance: 0 };
      assert.deepEqual(numbers(kMeans(far, options).assignments), numbers(kMeans(back, options).assignments));
    });
  });

  it('widens half precision, and carries no gradient', () => {
    scope(() => {
      const points = random([20, 3], 7, 'float32').to({ dtype: 'bfloat16' }).requiresGrad_();
      const fit = kMeans(points, { clusters: 3 });
      assert.equal(fit.centroids.dtype, 'float32');
      assert.ok(!fit.centroids.requiresGrad);
      const same = kMeans(points.detach().to({ dtype: 'float32' }), { clusters: 3 });
      assert.ok(same.centroids.equal(fit.centroids));
    });
  });

  it('is no better than any other choice of centroids among neighbours of its own (a local optimum)', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), (seed) =>
        scope(() => {
          const points = random([25, 2], seed);
          const fit = kMeans(points, { clusters: 3, seed, tolerance: 0, iterations: 500 });
          const [rows, centroids] = [rowsOf(points), rowsOf(fit.centroids)];
          const owners = numbers(fit.assignments);
          const cost = (shift: number) =>
            rows.reduce(
              (sum, row, i) =>
                sum +
                squared(
                  row,
                  centroids[owners[i]!]!.map((x) => x + shift),
                ),
              0,
            );
          for (const shift of [-0.01, 0.01]) assert.ok(cost(shift) >= fit.inertia);
        }),
      ),
      { numRuns: 10, seed: 1 },
    );
  });

  it('keeps its centroids in its state', () => {
    scope(() => {
      const points = random([40, 3], 8);
      const one = new KMeans({ clusters: 4 });
      const other = new KMeans({ clusters: 4, seed: 9 });
      assert.throws(() => one.predict(points), /no centroids before fit/);
      const fit = one.fit(points);
      other.loadStateDict(one.stateDict());
      assert.ok(other.predict(points).equal(fit.assignments));
      const wrong = new KMeans({ clusters: 5 });
      assert.throws(() => wrong.loadStateDict(one.stateDict()), /clusters 4, this one 5/);
      const { values } = one.stateDict();
      const tensors = new Map([['centroids', torch.zeros([3, 3])]]);
      assert.throws(() => other.loadStateDict({ tensors, values }), /floating-point \[4, D\], found float32 \[3, 3\]/);
      other.loadStateDict(new KMeans({ clusters: 4 }).stateDict());
      assert.throws(() => other.centroids, /no centroids/);
      one.dispose();
    });
  });

  it('refuses what it can not cluster', () => {
    scope(() => {
      const fit = (points: Tensor) => () => kMeans(points, { clusters: 3 });
      const refused = { constructor: InvalidArgumentError };
      assert.throws(fit(random([2, 3])), { ...refused, message: /3 clusters need at least as many points, found 2/ });
      assert.throws(fit(random([5])), { ...refused, message: /floating-point \[N, D\].*found float64 \[5\]/ });
      assert.throws(fit(torch.zeros([5, 2], { dtype: 'int64', device })), { ...refused, message: /found int64/ });
      assert.throws(fit(torch.tensor([[1], [NaN], [2]], { device })), { ...refused, message: /finite/ });
      assert.throws(() => new KMeans({ clusters: 0 }), /clusters must be an integer/);
      assert.throws(() => new KMeans({ clusters: 1, initialization: 'x' as never }), /initialization must be/);
      assert.throws(() => new KMeans({ clusters: 1, tolerance: -1 }), /tolerance/);
      const means = new KMeans({ clusters: 2 });
      means.fit(random([5, 3]));
      assert.throws(() => means.predict(random([5, 2])), /must have 3 columns, found 2/);
      means.dispose();
    });
  });

  it('does not leak', () => {
    const points = random([50, 3]);
    const before = memory().liveTensors;
    const { centroids, assignments } = kMeans(points, { clusters: 6, restarts: 2 });
    assert.equal(memory().liveTensors, before + 2);
    for (const tensor of [centroids, assignments, points]) tensor.dispose();
  });
});
