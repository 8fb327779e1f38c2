import { pnda } from '../../../src/contrast/objectives/pnda';
import { scope, torch, type Tensor } from '../../../src/torch';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const similarOf = (count: number): Tensor => torch.tensor(Array.from({ length: count }, (_, i) => i % 2 === 0));
const expected = (views: Tensor[], rotated: Tensor[], t: number): number => {
  const count = views[0]!.sizeOf(0);
  const all = [...views, ...rotated].flatMap(rowsOf);
  const losses = all.slice(0, 2 * count).map((row, a) => {
    const i = a % count;
    const scores = all.map((other) => cosine(row, other) / t);
    const positives = scores.filter((_, b) => b !== a && b % count === i && (b < 2 * count || i % 2 === 0));
    return Math.log(sumExp(scores.filter((_, b) => b !== a))) - mean(positives);
  });
  return mean(losses);
};

describe('pnda', () => {
  it('takes rotated copies as positives or negatives, image by image', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 11]) {
        for (const copies of [1, 2]) {
          const views = [random([count, 4]), random([count, 4])];
          const rotated = Array.from({ length: copies }, () => random([count, 4]));
          const loss = pnda(views[0]!, views[1]!, rotated, similarOf(count), { temperature: 0.4 });
          assertValue(loss, expected(views, rotated, 0.4));
        }
      }
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b, c] = [learning([65, 4]), learning([65, 4]), learning([65, 4])];
      assertExecutionsAgree((execution) => pnda(a, b, [c, c], similarOf(65), { execution }), [a, b, c]);
      assertGradients(
        (execution, x, y, z) => pnda(x!, y!, [z!], similarOf(3), { execution }),
        [learning([3, 2]), learning([3, 2]), learning([3, 2])],
      );
    });
    assertFinite(
      (temperature, x, y, z) => pnda(x!, y!, [z!], similarOf(4), { temperature }),
      [
        [4, 3],
        [4, 3],
        [4, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const x = (): Tensor => random([2, 3]);
    assertRefuses(() => pnda(x(), x(), [], similarOf(2)), /there are no rotated copies/);
    assertRefuses(() => pnda(x(), x(), [x()], torch.ones([2])), /similar must be bool, found float32/);
    assertRefuses(() => pnda(x(), x(), [random([3, 3])], similarOf(2)), /rotated 0: expected shape \[2, 3\]/);
  });
});
