import assert from 'node:assert/strict';
import { scav, sequenceDistances, type SequenceDistance } from '../../../src/contrast/objectives/scav';
import { grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertFinite,
  assertRefuses,
  assertValue,
  double,
  learning,
  mean,
  random,
  rowsOf,
  squared,
  sumExp,
  total,
  unit,
} from './plain';

type Sequence = number[][];
const apart = (a: readonly number[], b: readonly number[]): number => Math.sqrt(squared(a, b));
const stretched = (x: Sequence, length: number): Sequence =>
  Array.from({ length }, (_, t) => {
    const at = Math.max(0, ((t + 0.5) * x.length) / length - 0.5);
    const low = Math.min(Math.floor(at), x.length - 1);
    const high = Math.min(low + 1, x.length - 1);
    return x[low]!.map((value, d) => value + (at - low) * (x[high]![d]! - value));
  });
const distances: Record<SequenceDistance, (x: Sequence, y: Sequence) => number> = {
  interpolated: (x, y) => {
    const length = Math.max(x.length, y.length);
    const [a, b] = [stretched(x, length), stretched(y, length)];
    return Math.sqrt(mean(a.map((row, t) => squared(row, b[t]!))));
  },
  dtw: (x, y) => {
    const best = (t: number, s: number): number => {
      if (t < 0 || s < 0) return Infinity;
      const before = t === 0 && s === 0 ? 0 : Math.min(best(t - 1, s), best(t, s - 1), best(t - 1, s - 1));
      return apart(x[t]!, y[s]!) + before;
    };
    return best(x.length - 1, y.length - 1);
  },
  wasserstein: (x, y) => {
    const costs = x.map((a) => y.map((b) => apart(a, b)));
    const kernel = costs.map((row) => row.map((c) => Math.exp(-c / 0.2)));
    let [u, v] = [x.map(() => 1), y.map(() => 1)];
    for (let step = 0; step < 30; step++) {
      v = y.map((_, s) => 1 / y.length / total(kernel.map((row, t) => row[s]! * u[t]!)));
      u = kernel.map((row) => 1 / x.length / total(row.map((k, s) => k * v[s]!)));
    }
    return total(kernel.flatMap((row, t) => row.map((k, s) => u[t]! * k * v[s]! * costs[t]![s]!)));
  },
};
const kinds = Object.keys(distances) as SequenceDistance[];
const options = { regularization: 0.2, steps: 30 };
const sequencesOf = (x: Tensor): Sequence[] => Array.from({ length: x.sizeOf(0) }, (_, i) => rowsOf(x.at(i)).map(unit));

describe('sequenceDistances', () => {
  for (const distance of kinds) {
    it(`measures every pair of sequences: ${distance}`, () => {
      scope(() => {
        for (const [n, m, t, s] of [
          [1, 1, 1, 1],
          [2, 3, 4, 4],
          [3, 2, 5, 2],
          [2, 2, 1, 3],
          [2, 5, 3, 6],
        ] as const) {
          const [a, b] = [random([n, t, 3]), random([m, s, 3])];
          const found = sequenceDistances(a, b, { distance, ...options });
          assert.deepEqual([...found.shape], [n, m]);
          sequencesOf(a).forEach((x, i) =>
            sequencesOf(b).forEach((y, j) => assertValue(found.at(i, j), distances[distance](x, y), `${i}, ${j}`)),
          );
        }
        gradcheck(
          (a, b) => sequenceDistances(a!, b!, { distance, ...options }),
          [learning([2, 3, 2]), learning([2, 2, 2])],
        );
      });
    });
  }

  it('gives equal sequences a distance of about 0 and a gradient that is a number', () => {
    scope(() => {
      const x = learning([2, 4, 3]);
      for (const distance of ['interpolated', 'dtw'] as const) {
        const found = sequenceDistances(x, x, { distance }).diagonal();
        assertClose(found, torch.zeros([2], { dtype: 'float64' }), { atol: 1e-5 });
        assert.equal(grad(found.sum(), [x])[0]!.isfinite().all().itemSync(), 1);
      }
      assertRefuses(() => sequenceDistances(random([2, 3]), random([2, 3, 2])), /first: expected .* shape \[N, T, D\]/);
      assertRefuses(() => sequenceDistances(random([2, 3, 2]), random([2, 3, 4])), /second: expected .* \[N, T, 2\]/);
    });
  });
});

describe('scav', () => {
  it('is the symmetric InfoNCE of minus the distances', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 9]) {
        const [a, b] = [random([count, 3, 2]), random([count, 4, 2])];
        for (const distance of kinds) {
          const [x, y] = [sequencesOf(a), sequencesOf(b)];
          const scores = x.map((one) => y.map((other) => -distances[distance](one, other) / 0.3));
          const losses = scores.map(
            (row, i) => (Math.log(sumExp(row)) + Math.log(sumExp(scores.map((other) => other[i]!)))) / 2 - row[i]!,
          );
          assertValue(scav(a, b, { distance, temperature: 0.3, ...options }), mean(losses), distance);
          assertValue(scav(a, b, { distance, temperature: double(0.3), ...options, reduction: 'sum' }), total(losses));
        }
      }
    });
  });

  it('has right gradients, and is finite', () => {
    scope(() => {
      for (const distance of kinds) {
        gradcheck(
          (a, b) => scav(a!, b!, { distance, temperature: 0.5, ...options }),
          [learning([3, 2, 2]), learning([3, 3, 2])],
        );
      }
    });
    for (const distance of kinds) {
      assertFinite(
        (temperature, a, b) => scav(a!, b!, { distance, temperature }),
        [
          [4, 3, 2],
          [4, 5, 2],
        ],
      );
    }
    assertRefuses(() => scav(random([2, 3, 2]), random([3, 3, 2])), /must hold as many sequences/);
  });
});
