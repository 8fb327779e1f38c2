import assert from 'node:assert/strict';
import { FeatureTransformation, scoreStatistics } from '../../../src/negatives/mixing';
import { drawBeta, drawOrder } from '../../../src/negatives/mixing/mix';
import { Generator, grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, dot, learning, mean, random, rowsOf, unit } from '../../contrast/objectives/plain';

const units = (shape: number[]): Tensor => torch.tensor(rowsOf(random(shape)).map(unit), { dtype: 'float64' });

describe('FeatureTransformation', () => {
  it('equals a loop for each way to draw', () => {
    scope(() => {
      for (const [n, k] of [
        [1, 1],
        [2, 3],
        [3, 7],
      ] as const) {
        for (const each of ['call', 'row', 'number'] as const) {
          for (const normalize of [false, true]) {
            const [q, z, queue] = [units([n, 4]), units([n, 4]), units([k, 4])];
            const transform = new FeatureTransformation({ each, normalize, seed: 6 });
            const found = transform.apply(q, z, queue);
            const generator = new Generator({ seed: 6 });
            const shape = (rows: number): number[] => ({ call: [1, 1], row: [rows, 1], number: [rows, 4] })[each];
            const spread = (x: Tensor, rows: number): number[][] => rowsOf(x.expand([rows, 4]).contiguous());
            const beyond = spread(drawBeta(shape(n), 2, generator), n);
            const order = numbers(drawOrder(k, generator, queue));
            const share = spread(drawBeta(shape(k), 1.6, generator), k);
            const finish = (row: number[]): number[] => (normalize ? unit(row) : row);
            const [a, b, c] = [rowsOf(q), rowsOf(z), rowsOf(queue)];
            const mix = (x: number[][], y: number[][], w: (i: number, d: number) => number): number[][] =>
              x.map((row, i) => finish(row.map((v, d) => w(i, d) * v + (1 - w(i, d)) * y[i]![d]!)));
            const lambda = (i: number, d: number): number => 1 + beyond[i]![d]!;
            const expected = {
              queries: mix(a, b, lambda),
              keys: mix(b, a, lambda),
              negatives: mix(
                c,
                order.map((i) => c[i]!),
                (i, d) => share[i]![d]!,
              ),
            };
            for (const part of ['queries', 'keys', 'negatives'] as const) {
              const wanted = torch.tensor(expected[part], { dtype: 'float64' });
              assertClose(found[part], wanted, { atol: 1e-10, rtol: 0 }, part);
            }
          }
        }
      }
    });
  });

  it('takes positive similarity down by 2λ(λ − 1)(1 − s)', () => {
    scope(() => {
      const [q, z] = [units([5, 3]), units([5, 3])];
      const { queries, keys } = new FeatureTransformation({ seed: 1 }).apply(q, z, units([2, 3]));
      const lambda = 1 + numbers(drawBeta([1, 1], 2, new Generator({ seed: 1 })))[0]!;
      rowsOf(q).forEach((row, i) => {
        const s = dot(row, rowsOf(z)[i]!);
        const after = dot(rowsOf(queries)[i]!, rowsOf(keys)[i]!);
        assert.ok(Math.abs(after - (s - 2 * lambda * (lambda - 1) * (1 - s))) < 1e-12);
        assert.ok(after <= s);
      });
    });
  });

  it('has gradients of the queries only, also through the keys, and changes no input', () => {
    scope(() => {
      const [z, queue] = [learning([3, 4]), learning([5, 4])];
      const before = numbers(queue.detach());
      const q = learning([3, 4]);
      const apply = (x: Tensor) => new FeatureTransformation({ seed: 2 }).apply(x, z, queue);
      gradcheck((x) => apply(x!).queries, [q]);
      gradcheck((x) => apply(x!).keys, [q]);
      const { keys, negatives } = apply(q);
      assert.equal(negatives.requiresGrad, false);
      assert.deepEqual(grad(keys.sum(), [z], { allowUnused: true }), [null]);
      assert.deepEqual(numbers(queue.detach()), before);
    });
  });

  it('leaves what it is told to leave', () => {
    scope(() => {
      const [q, z, queue] = [units([2, 3]), units([2, 3]), units([4, 3])];
      const found = new FeatureTransformation({ positives: null, negatives: null }).apply(q, z, queue);
      assert.deepEqual(numbers(found.queries), numbers(q));
      assert.deepEqual(numbers(found.keys), numbers(z));
      assert.deepEqual(numbers(found.negatives), numbers(queue));
      const short = new FeatureTransformation().apply(q.to('bfloat16'), z.to('bfloat16'), queue.to('bfloat16'));
      assert.equal(short.negatives.dtype, 'float32');
    });
  });

  it('goes on exactly from its state', () => {
    scope(() => {
      const [q, z, queue] = [units([2, 3]), units([2, 3]), units([4, 3])];
      const [first, second] = [new FeatureTransformation({ seed: 1 }), new FeatureTransformation({ seed: 2 })];
      first.apply(q, z, queue);
      second.loadStateDict(first.stateDict());
      for (let step = 0; step < 2; step++) {
        const [a, b] = [first, second].map((one) => one.apply(q, z, queue));
        assert.deepEqual(numbers(a!.queries), numbers(b!.queries));
        assert.deepEqual(numbers(a!.negatives), numbers(b!.negatives));
      }
    });
  });

  it('refuses what does not fit', () => {
    const [q, queue] = [units([2, 3]), units([4, 3])];
    assertRefuses(() => new FeatureTransformation({ positives: 0 }), /positives must be a number at least 0.05/);
    assertRefuses(() => new FeatureTransformation({ each: 'all' as 'call' }), /each must be 'call', 'row' or 'number'/);
    assertRefuses(
      () => new FeatureTransformation().apply(q, units([3, 3]), queue).keys,
      /keys: expected shape \[2, 3\]/,
    );
    assertRefuses(() => new FeatureTransformation().apply(q, q, units([4, 2])).keys, /queue: expected shape \[N, 3\]/);
  });
});

describe('scoreStatistics', () => {
  it('equals a loop', () => {
    scope(() => {
      const [q, z, queue] = [random([3, 4]), random([3, 4]), random([7, 4])];
      const variance = (x: number[]): number => mean(x.map((v) => (v - mean(x)) ** 2));
      const own = rowsOf(q).map((row, i) => dot(row, rowsOf(z)[i]!));
      const others = rowsOf(q).map((row) => rowsOf(queue).map((key) => dot(row, key)));
      const expected = [mean(own), variance(own), mean(others.map(mean)), mean(others.map(variance))];
      const found = Object.values(scoreStatistics(q, z, queue)) as number[];
      found.forEach((value, i) => {
        assert.ok(Math.abs(value - expected[i]!) < 1e-10, `${i}: ${value}, not ${expected[i]!}`);
      });
    });
  });
});
