import assert from 'node:assert/strict';
import {
  alignmentLoss,
  alignmentAndUniformity,
  uniformityLoss,
} from '../../../src/contrast/objectives/alignment-uniformity';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  learning,
  mean,
  random,
  rowsOf,
  squared,
  unit,
} from './plain';

const aligned = (a: Tensor, b: Tensor, power: number, direction = unit): number => {
  const [x, y] = [rowsOf(a).map(direction), rowsOf(b).map(direction)];
  return mean(x.map((row, i) => squared(row, y[i]!) ** (power / 2)));
};
const uniform = (a: Tensor, scale: number, direction = unit): number => {
  const x = rowsOf(a).map(direction);
  const pairs = x.flatMap((row, i) => x.flatMap((other, j) => (i < j ? [Math.exp(-scale * squared(row, other))] : [])));
  return Math.log(mean(pairs));
};

describe('alignmentLoss and uniformityLoss', () => {
  it('are the mean power of distances, and the logarithm of the mean potential of pairs', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 19]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        for (const power of [1, 2, 3]) assertValue(alignmentLoss(a, b, { power }), aligned(a, b, power));
        assertValue(
          alignmentLoss(a, b, { normalize: false }),
          aligned(a, b, 2, (x) => [...x]),
        );
        if (count === 1) continue;
        for (const scale of [0.5, 2]) assertValue(uniformityLoss(a, { scale }), uniform(a, scale));
        assertValue(
          uniformityLoss(a, { normalize: false }),
          uniform(a, 2, (x) => [...x]),
        );
        const both = aligned(a, b, 2) + 0.15 * (uniform(a, 2) + uniform(b, 2));
        assertValue(alignmentAndUniformity(a, b, { weight: 0.3 }), both);
      }
      const [a, b] = [random([3, 2]), random([3, 2])];
      assertClose(alignmentLoss(a, b, { reduction: 'none' }).mean(), alignmentLoss(a, b));
      assertClose(alignmentLoss(a, b, { reduction: 'sum' }), alignmentLoss(a, b).mul(3));
    });
  });

  it('agree between dense and tiled, and have right gradients', () => {
    scope(() => {
      const [a, b] = [learning([260, 6]), learning([260, 6])];
      assertExecutionsAgree((execution) => alignmentAndUniformity(a, b, { execution }), [a, b]);
      assertGradients(
        (execution, x, y) => alignmentAndUniformity(x!, y!, { execution, power: 1.5, scale: 3 }),
        [learning([4, 3]), learning([4, 3])],
      );
    });
  });

  it('are finite at extreme scales, and for equal embeddings', () => {
    assertFinite(
      (scale, x, y) => alignmentAndUniformity(x!, y!, { scale: 1 / scale }),
      [
        [9, 4],
        [9, 4],
      ],
    );
    scope(() => {
      const same = torch.ones([3, 2]).requiresGrad_();
      const loss = alignmentAndUniformity(same, same.detach(), { power: 1 });
      assertValue(loss, 0, 'loss', 1e-5);
      assert.equal(grad(loss, [same])[0]!.isfinite().all().itemSync(), 1);
    });
  });

  it('refuse what has no pair', () => {
    assertRefuses(() => uniformityLoss(random([1, 3])), /one embedding has no pair/);
    assertRefuses(
      () => uniformityLoss(random([3, 3]), { scale: 0 }),
      /uniformityLoss: scale must be a number above 0, found 0/,
    );
    assertRefuses(
      () => alignmentLoss(random([3, 3]), random([2, 3])),
      /alignmentLoss: second: expected shape \[3, 3\]/,
    );
  });
});
