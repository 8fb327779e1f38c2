import assert from 'node:assert/strict';
import { groco, softSort } from '../../../src/contrast/objectives/groco';
import { gradcheck, scope, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertFinite, assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, total } from './plain';

/** The network, swap by swap. */
const network = (row: readonly number[], steepness: number): [number[], number[][]] => {
  const x = [...row];
  const p = row.map((_, i) => row.map((__, j) => (i === j ? 1 : 0)));
  for (let layer = 0; layer < x.length; layer++) {
    for (let k = layer % 2; k + 1 < x.length; k += 2) {
      const v = Math.atan(steepness * (x[k + 1]! - x[k]!)) / Math.PI + 0.5;
      for (const values of [x, ...p]) {
        const [a, b] = [values[k]!, values[k + 1]!];
        [values[k], values[k + 1]] = [v * a + (1 - v) * b, v * b + (1 - v) * a];
      }
    }
  }
  return [x, p];
};
const expected = (views: Tensor[], steepness: number, negatives: number): number => {
  const z = views.map(rowsOf);
  const losses = z.flatMap((anchors, v) =>
    anchors.map((row, i) => {
      const positives = z.flatMap((other, u) => (u === v ? [] : [cosine(row, other[i]!)])).sort((a, b) => a - b);
      const others = anchors.flatMap((other, j) => (j === i ? [] : [cosine(row, other)])).sort((a, b) => a - b);
      const hardest = others.slice(-negatives);
      const [, p] = network([...hardest, ...positives], steepness);
      const terms = p.map((shares, j) => {
        const high = total(shares.slice(hardest.length));
        return -Math.log(j < hardest.length ? 1 - high : high);
      });
      return mean(terms);
    }),
  );
  return mean(losses);
};

describe('softSort', () => {
  it('is the odd-even network with soft swaps, and nearly sorts when it is steep', () => {
    scope(() => {
      for (const size of [1, 2, 3, 5, 8]) {
        const x = random([4, size]);
        const { values, permutation } = softSort(x, { steepness: 3 });
        rowsOf(x).forEach((row, i) => {
          const [sorted, p] = network(row, 3);
          sorted.forEach((value, k) => assertValue(values.at(i, k), value));
          p.forEach((shares, a) => shares.forEach((share, k) => assertValue(permutation.at(i, a, k), share)));
        });
        for (const sums of [permutation.sum([1]), permutation.sum([2])]) {
          numbers(sums).forEach((sum) => assert.ok(Math.abs(sum - 1) < 1e-12));
        }
        assertClose(softSort(x, { steepness: 1e7 }).values, x.sort(1)[0], { atol: 1e-3 });
      }
      gradcheck((x) => softSort(x!, { steepness: 2 }).values, [learning([2, 4])]);
    });
  });
});

describe('groco', () => {
  it('asks how much of each candidate lands in its group', () => {
    scope(() => {
      for (const count of [2, 3, 5, 13]) {
        for (const viewCount of [2, 3]) {
          const views = Array.from({ length: viewCount }, () => random([count, 4]));
          assertValue(groco(views, { negatives: 4, steepness: 2 }), expected(views, 2, 4));
          assertValue(groco(views), expected(views, 1, 10));
        }
      }
      assertValue(groco([random([1, 3]), random([1, 3])]), 0);
      const views = [random([5, 3]), random([5, 3])];
      assertClose(groco(views, { reduction: 'none' }).mean(), groco(views), { atol: 1e-12 });
    });
  });

  it('has right gradients, for anchors alone unless asked, and is finite', () => {
    scope(() => {
      gradcheck(
        (a, b, c) => groco([a!, b!, c!], { detach: false }),
        [learning([3, 2]), learning([3, 2]), learning([3, 2])],
      );
      const [a, b] = [learning([4, 3]), random([4, 3])];
      const frozen = groco([a, b], { reduction: 'none' });
      frozen.sum().backward();
      const [one, other] = [a.grad!.clone(), learning([4, 3])];
      other.setData(a.detach());
      groco([other, b], { reduction: 'sum', detach: false }).backward();
      assert.ok(total(numbers(one.sub(other.grad!).abs())) > 1e-3);
    });
    assertFinite(
      (t, a, b) => groco([a!, b!], { steepness: 1 / t }),
      [
        [12, 3],
        [12, 3],
      ],
    );
    assertFinite(
      (t, a, b) => groco([a!, b!], { steepness: 1e6 * t }),
      [
        [12, 3],
        [12, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    assertRefuses(() => groco([random([2, 3])]), /at least two views, found 1/);
    assertRefuses(() => groco([random([2, 3]), random([3, 3])]), /view 1: expected shape \[2, 3\]/);
    assertRefuses(() => groco([random([2, 3]), random([2, 3])], { negatives: 0 }), /negatives must be an integer/);
  });
});
