import { curl, curlBlock } from '../../../src/contrast/objectives/curl';
import { gradcheck, scope, type Tensor } from '../../../src/torch';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  dot,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

type Loss = 'logistic' | 'hinge';
const tuple = (margins: number[], loss: Loss): number =>
  loss === 'logistic'
    ? Math.log(1 + sumExp(margins.map((v) => -v)))
    : Math.max(0, 1 + Math.max(...margins.map((v) => -v)));
const expected = (a: Tensor, p: Tensor, negatives: (i: number) => number[][], loss: Loss): number => {
  const positives = rowsOf(p);
  return mean(
    rowsOf(a).map((x, i) =>
      tuple(
        negatives(i).map((n) => dot(x, positives[i]!) - dot(x, n)),
        loss,
      ),
    ),
  );
};

describe('curl', () => {
  it('is the logistic or the hinge loss of margins, over negatives of the batch, shared or own', () => {
    scope(() => {
      for (const loss of ['logistic', 'hinge'] as const) {
        for (const count of [1, 2, 3, 5, 13]) {
          const [a, p] = [random([count, 3]), random([count, 3])];
          const [shared, own] = [random([4, 3]), random([count, 6, 3])];
          assertValue(
            curl(a, p, { loss }),
            expected(a, p, (i) => rowsOf(p).filter((_, j) => j !== i), loss),
          );
          assertValue(
            curl(a, p, { loss, negatives: shared }),
            expected(a, p, () => rowsOf(shared), loss),
          );
          assertValue(
            curl(a, p, { loss, negatives: own }),
            expected(a, p, (i) => rowsOf(own.at(i)), loss),
          );
        }
      }
    });
  });

  it('takes blocks of samples by their means', () => {
    scope(() => {
      for (const loss of ['logistic', 'hinge'] as const) {
        const [a, p, n] = [random([5, 3]), random([5, 4, 3]), random([5, 2, 4, 3])];
        const means = n.mean([2]);
        assertValue(
          curlBlock(a, p, n, { loss }),
          expected(a, p.mean([1]), (i) => rowsOf(means.at(i)), loss),
        );
        const one = n.select(1, 0);
        assertValue(
          curlBlock(a, p, one, { loss }),
          expected(a, p.mean([1]), (i) => [rowsOf(means.at(i))[0]!], loss),
        );
      }
      gradcheck((a, p, n) => curlBlock(a!, p!, n!), [learning([3, 2]), learning([3, 2, 2]), learning([3, 2, 2])]);
    });
  });

  it('agrees between dense and tiled, and has right gradients', () => {
    scope(() => {
      const [a, p, n] = [learning([130, 4]), learning([130, 4]), learning([260, 4])];
      assertExecutionsAgree((execution) => curl(a, p, { negatives: n, execution }), [a, p, n]);
      assertExecutionsAgree((execution) => curl(a, p, { execution }), [a, p]);
      assertGradients((execution, x, y) => curl(x!, y!, { execution }), [learning([4, 3]), learning([4, 3])]);
      gradcheck((x, y) => curl(x!, y!, { loss: 'hinge' }), [learning([4, 3]), learning([4, 3])]);
    });
    for (const loss of ['logistic', 'hinge'] as const) {
      assertFinite(
        (temperature, x, y) => curl(x!.div(temperature), y!, { loss }),
        [
          [6, 3],
          [6, 3],
        ],
      );
    }
  });

  it('refuses shapes that do not fit', () => {
    assertRefuses(
      () => curl(random([2, 3]), random([2, 3]), { negatives: random([3, 2, 3]) }),
      /\[K, 3\] or \[2, K, 3\]/,
    );
    assertRefuses(
      () => curlBlock(random([2, 3]), random([2, 3]), random([2, 1, 3])),
      /positives: expected shape \[2, B, 3\]/,
    );
  });
});
