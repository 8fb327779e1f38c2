import assert from 'node:assert/strict';
import { supReMix } from '../../../src/contrast/objectives/sup-re-mix';
import { Generator, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertFinite,
  assertRefuses,
  assertValue,
  dot,
  double,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  unit,
} from './plain';

interface Plain {
  t: number;
  window: number;
  magnify: boolean;
}

/** One loss a view, null where there is no positive. */
function byLoop(
  views: Tensor[],
  targets: number[],
  shares: number[][],
  { t, window, magnify }: Plain,
): (number | null)[] {
  const z = views.flatMap(rowsOf).map(unit);
  const y = views.flatMap(() => targets);
  const weight = (distance: number): number => (magnify ? Math.log(1 + Math.abs(distance)) : 0);
  return z.map((anchor, i) => {
    const positives: number[] = [];
    const all: number[] = [];
    z.forEach((other, j) => {
      if (j === i) return;
      const score = dot(anchor, other) / t;
      all.push(score + weight(y[j]! - y[i]!));
      if (y[j] === y[i]) positives.push(score);
    });
    z.forEach((other, k) => {
      if (y[k] === y[i]) return;
      const share = shares[i]![k]!;
      const mixture = anchor.map((value, d) => share * value + (1 - share) * other[d]!);
      all.push(dot(anchor, mixture) / t + weight((1 - share) * (y[k]! - y[i]!)));
    });
    z.forEach((low, j) => {
      z.forEach((high, k) => {
        if (!(y[j]! < y[i]! && y[i]! < y[k]! && y[i]! - y[j]! < window && y[k]! - y[i]! < window)) return;
        const lambda = (y[k]! - y[i]!) / (y[k]! - y[j]!);
        const mixture = low.map((value, d) => lambda * value + (1 - lambda) * high[d]!);
        positives.push(dot(anchor, mixture) / t);
        all.push(dot(anchor, mixture) / t);
      });
    });
    return positives.length === 0 ? null : Math.log(sumExp(all)) - mean(positives);
  });
}

const targetsOf = (count: number): number[] => Array.from({ length: count }, (_, i) => ((i * 5) % 7) + (i % 3) / 2);

describe('supReMix', () => {
  it('equals a loop over samples and mixtures', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 9]) {
        for (const viewCount of [1, 2]) {
          const views = Array.from({ length: viewCount }, () => random([count, 4]));
          const targets = targetsOf(count);
          const shares = random([count * viewCount, count * viewCount]).sigmoid();
          for (const [t, window, magnify] of [
            [0.3, 5, true],
            [0.1, 2, false],
          ] as const) {
            const expected = byLoop(views, targets, rowsOf(shares), { t, window, magnify });
            const some = expected.filter((value) => value !== null);
            const options = { temperature: t, window, magnify, shares };
            const loss = supReMix(views, torch.tensor(targets, { dtype: 'float64' }), options);
            assertValue(loss, some.length === 0 ? 0 : mean(some));
            const each = supReMix(views, torch.tensor(targets), { ...options, reduction: 'none' });
            expected.forEach((value, i) => {
              assertValue(each.at(i), value ?? 0);
            });
          }
        }
      }
    });
  });

  it('draws shares from the beta distribution, alike for alike generators', () => {
    scope(() => {
      const [views, targets] = [[random([4, 3]), random([4, 3])], torch.tensor([1, 2, 3, 4])];
      const drawn = (shares?: readonly [number, number]): Tensor =>
        supReMix(views, targets, { generator: new Generator({ seed: 3 }), ...(shares && { shares }) });
      assertClose(drawn(), drawn([2, 8]), { atol: 0 });
      // Nearer to the anchor they are harder.
      assert.ok(drawn([800, 200]).itemSync() > drawn([200, 800]).itemSync());
    });
  });

  it('gives mixtures no gradient but that of the anchor', () => {
    scope(() => {
      const targets = torch.tensor([1, 2, 3]);
      const shares = random([3, 3]).sigmoid();
      const options = { temperature: 0.5, shares };
      // Only the middle one has a positive, a mixture of the two others: to these come gradients as to negatives.
      const x = learning([3, 4]);
      supReMix([x], targets, options).backward();
      const [low, middle, high] = rowsOf(x).map(unit) as [number[], number[], number[]];
      const weights = [low, high].map((other) => 2 * Math.exp(dot(middle, other) / 0.5));
      const scores = [low, high].flatMap((other, side) => {
        const share = rowsOf(shares)[1]![side * 2]!;
        return [weights[side]!, (2 - share) * Math.exp((share + (1 - share) * dot(middle, other)) / 0.5)];
      });
      const hard = Math.exp((dot(middle, low) + dot(middle, high)) / 2 / 0.5);
      const sum = scores.reduce((a, b) => a + b) + hard;
      const raw = rowsOf(x)[0]!;
      const length = Math.sqrt(dot(raw, raw));
      const pushed = middle.map(
        (value, d) => ((value - dot(middle, low) * low[d]!) * weights[0]!) / sum / 0.5 / length,
      );
      assertClose(x.grad!.at(0), torch.tensor(pushed, { dtype: 'float64' }), { atol: 1e-10 });
    });
  });

  it('has right gradients, is finite, and refuses what does not fit', () => {
    scope(() => {
      // With targets that never lie between two others or differ, there are no mixtures: SupCon.
      gradcheck(
        (a, b, t) => supReMix([a!, b!], torch.tensor([1, 1, 1]), { temperature: t! }),
        [learning([3, 2]), learning([3, 2]), double(0.6).requiresGrad_()],
      );
    });
    assertFinite(
      (temperature, a, b) => supReMix([a!, b!], torch.tensor([1, 2, 3, 4, 5]), { temperature }),
      [
        [5, 3],
        [5, 3],
      ],
    );
    const x = random([2, 3]);
    assertRefuses(() => supReMix([], torch.tensor([1])), /there are no views/);
    assertRefuses(() => supReMix([x], torch.tensor([1])), /targets: expected shape \[2\]/);
    assertRefuses(() => supReMix([x], torch.tensor([1, 2]), { window: 0 }), /window must be a number above 0/);
    assertRefuses(() => supReMix([x], torch.tensor([1, 2]), { shares: [0, 2] }), /two whole numbers of at least 1/);
    assertRefuses(() => supReMix([x], torch.tensor([1, 2]), { shares: x }), /shares: expected shape \[2, 2\]/);
  });
});
