import assert from 'node:assert/strict';
import { pairedSimilarity } from '../../../src/contrast';
import { dcl, dclW } from '../../../src/contrast/objectives/dcl';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, largestDifference } from '../../support/close';
import { assertRefuses, assertValue, cosine, mean, random, rowsOf, sumExp } from './plain';

interface Weights {
  sigma: number;
  normalize: 'mean' | 'sum';
}

/** One loss an anchor, view by view; 0 without negatives. */
function byLoop(views: readonly Tensor[], temperature: number, weights?: Weights): number[] {
  const samples = views.flatMap((view) => rowsOf(view).map((row, sample) => ({ row, sample })));
  const pairs = samples.map((anchor) =>
    samples
      .filter((other) => other !== anchor)
      .map((other) => ({ isPositive: other.sample === anchor.sample, value: cosine(anchor.row, other.row) })),
  );
  const exponentials = pairs.flatMap((own) =>
    own.filter(({ isPositive }) => isPositive).map(({ value }) => Math.exp(value / (weights?.sigma ?? 1))),
  );
  // Every pair is here twice, once from each side.
  const whole = exponentials.reduce((a, b) => a + b) / (weights?.normalize === 'mean' ? exponentials.length : 2);
  return pairs.map((own) => {
    const negatives = own.filter(({ isPositive }) => !isPositive).map(({ value }) => value / temperature);
    if (negatives.length === 0) return 0;
    const positives = own
      .filter(({ isPositive }) => isPositive)
      .map(({ value }) => {
        const weight = weights === undefined ? 1 : 2 - Math.exp(value / weights.sigma) / whole;
        return (weight * value) / temperature;
      });
    return Math.log(sumExp(negatives)) - mean(positives);
  });
}

const viewsOf = (views: number, count: number): Tensor[] => Array.from({ length: views }, () => random([count, 4]));

describe('dcl', () => {
  it('equals a loop without the positives in the denominator', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        for (const tensors of [viewsOf(2, count), viewsOf(3, count)]) {
          const expected = byLoop(tensors, 0.1);
          for (const execution of ['dense', 'tiled'] as const) {
            const each = dcl(tensors, { execution, reduction: 'none' });
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
            assertValue(dcl(tensors, { execution }), mean(expected));
          }
        }
      }
    });
  });

  it('keeps what does not count out of the sum at small temperatures', () => {
    scope(() => {
      // Each embedding is its own positive, and opposite to all negatives: a mask of −103.6 added to a score of 200 would let itself in.
      const views = [torch.tensor([[1, 0], [-1, 0]]), torch.tensor([[1, 0], [-1, 0]])]; // prettier-ignore
      assertValue(dcl(views, { temperature: 0.005 }), -400 + Math.log(2), 'loss', 1e-6);
    });
  });

  it('refuses one view', () => {
    assertRefuses(() => dcl([random([2, 2])]), /dcl: views must be two tensors or more/);
  });
});

describe('dclW', () => {
  it('equals a loop with weights for positives', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        for (const tensors of [viewsOf(2, count), viewsOf(3, count)]) {
          for (const normalize of ['mean', 'sum'] as const) {
            const expected = byLoop(tensors, 0.2, { sigma: 0.5, normalize });
            for (const execution of ['dense', 'tiled'] as const) {
              const options = { temperature: 0.2, normalize, execution };
              const each = dclW(tensors, { ...options, reduction: 'none' });
              assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
            }
          }
        }
      }
    });
  });

  it('is dcl where all positives are equally far, as the weights are then 1', () => {
    scope(() => {
      const view = random([5, 3]);
      assertClose(dclW([view, view]), dcl([view, view]), { atol: 1e-12 });
    });
  });

  it('refuses a sigma that is none', () => {
    const view = random([2, 2]);
    assertRefuses(() => dclW([view, view], { sigma: 0 }), /dclW: sigma must be a number above 0/);
    assertRefuses(() => dclW([view, view], { temperature: random([2]) }), /dclW: temperature must be/);
  });

  it('keeps gradients out of the weights where told', () => {
    scope(() => {
      const [a, b] = viewsOf(2, 4).map((view) => view.requiresGrad_()) as [Tensor, Tensor];
      const [through, without] = [false, true].map((detachWeights) => {
        const loss = dclW([a, b], { detachWeights });
        return [loss, grad(loss, [a])[0]!] as const;
      });
      assertClose(without![0], through![0], { atol: 1e-12 });
      // With weights that are given, the loss is linear in them: dcl's and what they take off.
      const cosines = rowsOf(a).map((row, i) => cosine(row, rowsOf(b)[i]!));
      const total = sumExp(cosines.map((value) => value / 0.5));
      const weights = cosines.map((value) => 1 - (cosines.length * Math.exp(value / 0.5)) / total);
      const fixed = torch.tensor(weights, { dtype: 'float64' });
      const taken = pairedSimilarity(a, b).mul(fixed).mean().div(0.1);
      const expected = grad(dcl([a, b]).sub(taken), [a])[0]!;
      assertClose(without![1], expected, { atol: 1e-10 });
      assert.ok(largestDifference(through![1], expected) > 1e-3);
    });
  });
});
