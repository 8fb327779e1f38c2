import assert from 'node:assert/strict';
import { nearestInSupport, nnclr } from '../../../src/contrast/objectives/nnclr';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, sumExp } from './plain';

const nearestOf = (row: number[], support: number[][]): number[] =>
  support.reduce((best, other) => (cosine(row, other) > cosine(row, best) ? other : best));

function byLoop(views: Tensor[], support: Tensor, predictions: Tensor[], t: number, both: boolean): number[] {
  const bank = rowsOf(support);
  const losses = [0, 1].map((v) => {
    const near = rowsOf(views[v]!).map((row) => nearestOf(row, bank));
    const other = rowsOf(predictions[1 - v]!);
    return near.map((row, i) => {
      const own = cosine(row, other[i]!) / t;
      const forward = Math.log(sumExp(other.map((p) => cosine(row, p) / t))) - own;
      if (!both) return forward;
      return (forward + Math.log(sumExp(near.map((n) => cosine(n, other[i]!) / t))) - own) / 2;
    });
  });
  return losses[0]!.map((loss, i) => (loss + losses[1]![i]!) / 2);
}

describe('nnclr', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const views = [random([count, 4]), random([count, 4])];
        const predictions = [random([count, 4]), random([count, 4])] as const;
        const support = random([17, 4]);
        for (const bothDirections of [false, true]) {
          for (const execution of ['dense', 'tiled'] as const) {
            const plain = nnclr(views[0]!, views[1]!, support, { execution, bothDirections });
            assertValue(plain, mean(byLoop(views, support, views, 0.1, bothDirections)));
            const options = { execution, bothDirections, predictions, temperature: 0.3, reduction: 'none' } as const;
            const each = nnclr(views[0]!, views[1]!, support, options);
            const expected = byLoop(views, support, [...predictions], 0.3, bothDirections);
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
          }
        }
      }
    });
  });

  it('takes a lookup instead, and gives no gradient through neighbours', () => {
    scope(() => {
      const [a, b, support] = [learning([5, 3]), learning([5, 3]), learning([9, 3])];
      const expected = nnclr(a, b, support);
      const predictions = [random([5, 3]), random([5, 3])] as const;
      assertClose(
        nnclr(a, b, (x) => nearestInSupport(x, support)),
        expected,
        { atol: 1e-14 },
      );
      assert.equal(grad(expected, [support], { allowUnused: true })[0], null);
      assert.equal(nnclr(a, b, support, { predictions }).requiresGrad, false);
    });
  });

  it('refuses what does not fit', () => {
    const [a, support] = [random([4, 3]), random([6, 3])];
    assertRefuses(() => nnclr(a, random([3, 3]), support), /nnclr: second: expected shape \[4, 3\]/);
    assertRefuses(() => nnclr(a, a, random([6, 2])), /nnclr: support: expected shape \[N, 3\], found \[6, 2\]/);
    assertRefuses(() => nnclr(a, a, () => support), /neighbours that support gives: expected shape \[4, 3\]/);
    assertRefuses(() => nnclr(a, a, () => a.to('int64')), /must be floating-point, found int64/);
    assertRefuses(
      () => nnclr(a, a, support, { predictions: [a, support] }),
      /predictions\[1\]: expected shape \[4, 3\]/,
    );
    assertRefuses(() => nnclr(a, a, support, { temperature: -1 }), /nnclr: temperature must be a number above 0/);
  });
});

describe('nearestInSupport', () => {
  it('is exact over several chunks of rows, and keeps the lengths of the support', () => {
    scope(() => {
      // 2²² scores are held at once: 256 rows with a support of 2¹⁴.
      const support = torch.tensor([3, -2, 0.5, 0, -7, 0, 0, 4], { dtype: 'float64' }).reshape([4, 2]);
      const repeated = support.repeat([1 << 12, 1]);
      const embeddings = torch.tensor([1, 0, 0, 1, -1, 0.1, -1, 3], { dtype: 'float64' }).reshape([4, 2]);
      const many = embeddings.repeat([70, 1]);
      const found = rowsOf(nearestInSupport(many, repeated));
      const expected = [
        [0.5, 0],
        [0, 4],
        [-7, 0],
        [0, 4],
      ];
      found.forEach((row, i) => {
        assert.deepEqual(row, expected[i % 4]);
      });
    });
  });

  it('refuses what does not fit', () => {
    assertRefuses(() => nearestInSupport(random([2, 3]), random([2, 4])), /nearestInSupport: support: expected shape/);
  });
});
