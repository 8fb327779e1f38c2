import { uniClr } from '../../../src/contrast/objectives/uni-clr';
import { scope, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  double,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
} from './plain';

/** One loss a view, inliers before outliers; the label of an outlier is its own. */
function byLoop(
  inliers: Tensor[],
  outliers: Tensor[],
  t: number,
  weightTemperature: number | null,
  labels: number[],
): number[] {
  const items = [
    ...inliers.flatMap((view) => rowsOf(view).map((row, i) => ({ row, label: labels[i]!, isInlier: true }))),
    ...outliers.flatMap((view) => rowsOf(view).map((row, i) => ({ row, label: 1000 + i, isInlier: false }))),
  ];
  const positivesOf = (item: (typeof items)[number]) =>
    items.filter((other) => other !== item && other.label === item.label);
  const weightOf = (item: (typeof items)[number]): number =>
    weightTemperature === null || !item.isInlier
      ? 1
      : sumExp(positivesOf(item).map((other) => cosine(item.row, other.row) / weightTemperature));
  return items.map((item) => {
    const all = Math.log(
      sumExp(items.filter((other) => other !== item).map((other) => cosine(item.row, other.row) / t)),
    );
    const positives = positivesOf(item);
    const weights = positives.map(weightOf);
    const terms = positives.map((other, p) => weights[p]! * (all - cosine(item.row, other.row) / t));
    return total(terms) / total(weights);
  });
}

const viewsOf = (count: number, views = 2): Tensor[] => Array.from({ length: views }, () => random([count, 4]));

describe('uniClr', () => {
  it('is weighted SupCon for inliers and NT-Xent for outliers', () => {
    scope(() => {
      for (const [inliers, outliers] of [
        [1, 1],
        [2, 1],
        [3, 5],
        [7, 13],
      ] as const) {
        for (const views of [2, 3]) {
          const [x, y] = [viewsOf(inliers, views), viewsOf(outliers, views)];
          for (const weightTemperature of [0.5, 0.2, null]) {
            for (const labels of [undefined, Array.from({ length: inliers }, (_, i) => (i % 2) * 7)]) {
              const plain = labels ?? Array.from({ length: inliers }, () => 0);
              const expected = byLoop(x, y, 0.3, weightTemperature, plain);
              const options = { temperature: 0.3, weightTemperature, ...(labels && { labels: ids(labels) }) };
              for (const execution of ['dense', 'tiled'] as const) {
                assertValue(uniClr(x, y, { ...options, execution }), mean(expected));
                const each = uniClr(x, y, { ...options, execution, reduction: 'none' });
                expected.forEach((value, i) => {
                  assertValue(each.at(i), value);
                });
              }
            }
          }
        }
      }
      const [x, y] = [viewsOf(3), viewsOf(2)];
      assertClose(uniClr(x, y), uniClr(x, y, { temperature: 0.5, weightTemperature: 0.5 }), { atol: 1e-12 });
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const inputs = [[70, 3], [70, 3], [130, 3], [130, 3]].map((shape) => learning(shape)); // prettier-ignore
      for (const weightTemperature of [0.5, null]) {
        assertExecutionsAgree((execution) => {
          const [a, b, c, d] = inputs as [Tensor, Tensor, Tensor, Tensor];
          return uniClr([a, b], [c, d], { execution, weightTemperature, temperature: 0.2 });
        }, inputs);
      }
      // Weights have no gradient, which finite differences would see.
      assertGradients(
        (execution, a, b, c, d, t) =>
          uniClr([a!, b!], [c!, d!], { execution, weightTemperature: null, temperature: t! }),
        [learning([2, 2]), learning([2, 2]), learning([3, 2]), learning([3, 2]), double(0.6).requiresGrad_()],
      );
    });
    assertFinite(
      (temperature, a, b, c, d) => uniClr([a!, b!], [c!, d!], { temperature, weightTemperature: temperature }),
      [
        [4, 3],
        [4, 3],
        [5, 3],
        [5, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const x = viewsOf(2);
    assertRefuses(() => uniClr(x, viewsOf(2, 3)), /as many views.* found 2 views \[2, 4\] and 3 views \[2, 4\]/);
    assertRefuses(() => uniClr([x[0]!], x), /uniClr: inliers: views must be two tensors or more/);
    assertRefuses(() => uniClr(x, x, { weightTemperature: 0 }), /weightTemperature must be a number above 0/);
    assertRefuses(() => uniClr(x, x, { labels: ids([1]) }), /labels: expected shape \[2\]/);
  });
});
