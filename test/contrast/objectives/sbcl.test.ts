import { sbcl } from '../../../src/contrast/objectives/sbcl';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const classOf = (i: number): number => Math.floor((i % 6) / 3);
const groupOf = (i: number): number => (i % 6 >= 5 ? 9 : Math.floor((i % 6) / 2) + 10 * classOf(i));
const expected = (views: Tensor[], temperatures?: number[]): number => {
  const [rows, count] = [views.flatMap(rowsOf), views[0]!.sizeOf(0)];
  const losses = rows.map((row, a) => {
    const i = a % count;
    const term = (
      t: number,
      isPositive: (j: number, b: number) => boolean,
      counts: (j: number, b: number) => boolean,
    ): number => {
      const scores = rows.map((other) => cosine(row, other) / t);
      const allowed = scores.filter((_, b) => b !== a && counts(b % count, b));
      const positives = scores.filter((_, b) => b !== a && isPositive(b % count, b));
      return positives.length === 0 ? 0 : Math.log(sumExp(allowed)) - mean(positives);
    };
    const near = term(
      0.1,
      (j) => groupOf(j) === groupOf(i),
      () => true,
    );
    const inClass = (j: number): boolean => classOf(j) === classOf(i);
    if (temperatures === undefined) return (0.1 / 0.07) * near + 0.25 * term(0.1, inClass, () => true);
    const counts = (j: number): boolean => groupOf(j) !== groupOf(i) || j === i;
    return (0.1 / 0.07) * near + 0.25 * term(temperatures[i]!, (j) => inClass(j) && counts(j), counts);
  });
  return mean(losses);
};
const labelsOf = (count: number): [Tensor, Tensor] => [
  ids(Array.from({ length: count }, (_, i) => classOf(i))),
  ids(Array.from({ length: count }, (_, i) => groupOf(i))),
];

describe('sbcl', () => {
  it('is SupCon over subclasses and over classes, plain or with ranking temperatures', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        for (const viewCount of [2, 3]) {
          const views = Array.from({ length: viewCount }, () => random([count, 4]));
          assertValue(sbcl(views, ...labelsOf(count)), expected(views));
          const temperatures = Array.from({ length: count }, (_, i) => 0.2 + 0.1 * classOf(i));
          const rankingTemperatures = torch.tensor(temperatures, { dtype: 'float64' });
          assertValue(sbcl(views, ...labelsOf(count), { rankingTemperatures }), expected(views, temperatures));
        }
      }
      // One view of samples that are alone in their classes: nothing to learn from.
      assertValue(sbcl([random([3, 2])], ids([0, 1, 2]), ids([0, 1, 2])), 0);
      const views = [random([4, 3]), random([4, 3])];
      assertClose(sbcl(views, ...labelsOf(4), { reduction: 'none' }).mean(), sbcl(views, ...labelsOf(4)), {
        atol: 1e-10,
      });
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b] = [learning([130, 4]), learning([130, 4])];
      const rankingTemperatures = torch.full([130], 0.3, { dtype: 'float64' });
      const loss = (execution: 'dense' | 'tiled'): Tensor =>
        sbcl([a, b], ...labelsOf(130), { execution, rankingTemperatures });
      assertExecutionsAgree(loss, [a, b]);
      assertGradients(
        (execution, x, y) => sbcl([x!, y!], ...labelsOf(4), { execution, temperature: 0.5 }),
        [learning([4, 2]), learning([4, 2])],
      );
    });
    assertFinite(
      (temperature, x, y) => sbcl([x!, y!], ...labelsOf(6), { temperature }),
      [
        [6, 3],
        [6, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const view = (): Tensor => random([3, 2]);
    assertRefuses(() => sbcl([], ids([]), ids([])), /there are no views/);
    assertRefuses(() => sbcl([view()], ids([0, 1]), ids([0, 1, 2])), /labels: expected shape \[3\], found \[2\]/);
    assertRefuses(
      () => sbcl([view()], ids([0, 1, 1]), ids([0, 1, 2]), { rankingTemperatures: torch.ones([3]) }),
      /need at least two views/,
    );
  });
});
