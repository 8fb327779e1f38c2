import { co2 } from '../../../src/contrast/objectives/co2';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertRefuses,
  assertValue,
  cosine,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
} from './plain';

const softmax = (scores: number[]): number[] => scores.map((s) => Math.exp(s) / sumExp(scores));
const kl = (p: number[], q: number[]): number => total(p.map((x, k) => x * Math.log(x / q[k]!)));

function byLoop(first: Tensor, second: Tensor, t: number, negatives?: Tensor, includePositive = false): number[] {
  const [a, b] = [rowsOf(first), rowsOf(second)];
  const bank = negatives && rowsOf(negatives);
  return a.map((row, i) => {
    const own = includePositive ? [cosine(row, b[i]!) / t] : [];
    const shares = (x: number[], others: number[][]): number[] =>
      softmax([...own, ...(bank ?? others.filter((_, j) => j !== i)).map((n) => cosine(x, n) / t)]);
    const [p, q] = [shares(row, b), shares(b[i]!, a)];
    return (kl(p, q) + kl(q, p)) / 2;
  });
}

describe('co2', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b, queue] = [random([count, 4]), random([count, 4]), random([count + 2, 4])];
        for (const includePositive of [false, true]) {
          assertValue(co2(a, b, { includePositive }), mean(byLoop(a, b, 0.05, undefined, includePositive)));
          const expected = byLoop(a, b, 0.2, queue, includePositive);
          for (const execution of ['dense', 'tiled'] as const) {
            const options = { includePositive, negatives: queue, temperature: 0.2, execution } as const;
            assertValue(co2(a, b, options), mean(expected));
            const each = co2(a, b, { ...options, reduction: 'none' });
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
          }
        }
      }
    });
  });

  it('agrees between dense and tiled over several tiles', () => {
    scope(() => {
      const [a, b, queue] = [learning([130, 6]), learning([130, 6]), learning([260, 6])];
      for (const includePositive of [false, true]) {
        assertExecutionsAgree(
          (execution) => co2(a, b, { negatives: queue, includePositive, execution }),
          [a, b, queue],
        );
      }
    });
  });

  it('is 0 for equal views', () => {
    scope(() => {
      const [a, queue] = [random([5, 4]), random([7, 4])];
      for (const execution of ['dense', 'tiled'] as const) assertValue(co2(a, a, { negatives: queue, execution }), 0);
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 4]);
    assertRefuses(() => co2(a, random([2, 4])), /co2: second: expected shape \[3, 4\]/);
    assertRefuses(() => co2(a, a, { negatives: random([3, 5]) }), /co2: negatives: expected shape \[N, 4\]/);
    assertRefuses(() => co2(a, a, { temperature: 0 }), /co2: temperature must be a number above 0/);
  });
});
