import { conan, cosent } from '../../../src/contrast/objectives/cosent';
import { multipleNegatives } from '../../../src/contrast/objectives/multiple-negatives';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertRefuses, assertValue, cosine, random, rowsOf } from './plain';

function byLoop(first: Tensor, second: Tensor, targets: number[], t: number): number {
  const cosines = rowsOf(first).map((row, i) => cosine(row, rowsOf(second)[i]!));
  let sum = 1;
  cosines.forEach((high, i) => {
    cosines.forEach((low, j) => {
      if (targets[i]! > targets[j]!) sum += Math.exp((low - high) / t);
    });
  });
  return Math.log(sum);
}

describe('cosent', () => {
  it('equals a loop, with grades that come twice', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        const targets = Array.from({ length: count }, (_, i) => ((i * 3) % 4) / 2);
        const graded = torch.tensor(targets, { dtype: 'float64' });
        assertValue(cosent(a, b, graded), byLoop(a, b, targets, 0.05));
        assertValue(cosent(a, b, graded, { temperature: 0.5 }), byLoop(a, b, targets, 0.5));
        assertValue(cosent(a, b, torch.ones([count])), 0, 'of one grade');
      }
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 4]);
    assertRefuses(() => cosent(a, random([2, 4]), torch.ones([3])), /cosent: second: expected shape \[3, 4\]/);
    assertRefuses(() => cosent(a, a, torch.ones([2])), /cosent: targets: expected shape \[3\]/);
    assertRefuses(() => cosent(a, a, torch.ones([3], { dtype: 'bool' })), /targets must be numbers, found bool/);
    assertRefuses(() => cosent(a, a, torch.ones([3]), { temperature: 0 }), /temperature must be a number above 0/);
  });
});

describe('conan', () => {
  it('is the sum of the losses of both tasks', () => {
    scope(() => {
      const [queries, positives, negatives] = [random([5, 4]), random([5, 4]), random([5, 2, 4])];
      const [first, second, targets] = [random([7, 4]), random([7, 4]), torch.arange(7)];
      const similarity = { first, second, targets };
      const of = (x: Tensor, weight: number, y: Tensor): number =>
        (x.itemSync() as number) + weight * (y.itemSync() as number);
      assertValue(
        conan({ retrieval: { queries, positives, negatives }, similarity }),
        of(multipleNegatives(queries, positives, { negatives }), 0.8, cosent(first, second, targets)),
      );
      assertValue(
        conan(
          { retrieval: { queries, positives }, similarity },
          { weight: 2, temperature: 0.1, similarityTemperature: 0.3 },
        ),
        of(
          multipleNegatives(queries, positives, { temperature: 0.1 }),
          2,
          cosent(first, second, targets, { temperature: 0.3 }),
        ),
      );
      assertRefuses(
        () => conan({ retrieval: { queries, positives }, similarity }, { weight: -1 }),
        /conan: weight must be a number at least 0/,
      );
    });
  });
});
