import { cacr, cacrParts } from '../../../src/contrast/objectives/cacr';
import { gradcheck, scope, type Tensor } from '../../../src/torch';
import {
  assertFinite,
  assertRefuses,
  assertValue,
  learning,
  mean,
  random,
  rowsOf,
  squared,
  total,
  unit,
} from './plain';

const weighted = (distances: number[], scale: number): number => {
  const weights = distances.map((d) => Math.exp(scale * d));
  return total(distances.map((d, i) => (d * weights[i]!) / total(weights)));
};
const expected = (views: Tensor[], t: readonly [number, number], uniform = false): [number, number] => {
  const z = views.map((view) => rowsOf(view).map(unit));
  const take = (distances: number[], scale: number): number => (uniform ? mean(distances) : weighted(distances, scale));
  const near = z.flatMap((view, v) =>
    view.map((row, i) =>
      take(
        z.flatMap((other, u) => (u === v ? [] : [squared(row, other[i]!)])),
        t[0],
      ),
    ),
  );
  const far = z.flatMap((view, v) =>
    z.slice(v + 1).flatMap((other) =>
      view.map((row, i) =>
        take(
          other.flatMap((x, j) => (j === i ? [] : [squared(row, x)])),
          -t[1],
        ),
      ),
    ),
  );
  return [mean(near), -mean(far)];
};

describe('cacr', () => {
  it('is the weighted attraction among positives and repulsion among negatives', () => {
    scope(() => {
      for (const count of [2, 3, 5, 11]) {
        for (const viewCount of [2, 3]) {
          const views = Array.from({ length: viewCount }, () => random([count, 4]));
          for (const weights of ['distance', 'uniform'] as const) {
            const [near, far] = expected(views, [0.7, 1.5], weights === 'uniform');
            const options = { positiveScale: 0.7, negativeScale: 1.5, weights };
            const parts = cacrParts(views, { ...options, attraction: 2, repulsion: 3 });
            assertValue(parts.attraction, 2 * near);
            assertValue(parts.repulsion, 3 * far);
            assertValue(cacr(views, options), near + far);
          }
        }
      }
      const alone = [random([1, 3]), random([1, 3])];
      assertValue(cacrParts(alone).repulsion, 0);
    });
  });

  it('has right gradients, through the weights as well, and is finite at extreme scales', () => {
    scope(() => {
      gradcheck(
        (a, b, c) => cacr([a!, b!, c!], { negativeScale: 2 }),
        [learning([3, 2]), learning([3, 2]), learning([3, 2])],
      );
    });
    assertFinite(
      (t, a, b) => cacr([a!, b!], { positiveScale: 1 / t, negativeScale: 1 / t }),
      [
        [5, 3],
        [5, 3],
      ],
    );
  });

  it('refuses one view', () => {
    assertRefuses(() => cacr([random([3, 2])]), /at least two views, found 1/);
    assertRefuses(() => cacr([random([3, 2]), random([2, 2])]), /view 1: expected shape \[3, 2\]/);
  });
});
