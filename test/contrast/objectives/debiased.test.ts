import { debiased } from '../../../src/contrast/objectives/debiased';
import { hardNegative } from '../../../src/contrast/objectives/hard-negative';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, mean, random, rowsOf, total } from './plain';

/** One loss an anchor, view by view, as the papers' formulas read. */
function byLoop(views: readonly Tensor[], temperature: number, tauPlus: number, beta: number): number[] {
  const samples = views.flatMap((view) => rowsOf(view).map((row, sample) => ({ row, sample })));
  return samples.map((anchor) => {
    const exponential = (other: { row: number[] }): number => Math.exp(cosine(anchor.row, other.row) / temperature);
    const others = samples.filter((other) => other !== anchor);
    const positives = others.filter(({ sample }) => sample === anchor.sample).map(exponential);
    const negatives = others.filter(({ sample }) => sample !== anchor.sample).map(exponential);
    if (negatives.length === 0) return 0;
    const weights = negatives.map((e) => e ** beta);
    const weighted = total(negatives.map((e, i) => (weights[i]! / mean(weights)) * e)) / negatives.length;
    const corrected = (weighted - tauPlus * mean(positives)) / (1 - tauPlus);
    const sum = negatives.length * Math.max(corrected, Math.exp(-1 / temperature));
    return -mean(positives.map((e) => Math.log(e / (e + sum))));
  });
}

const viewsOf = (views: number, count: number): Tensor[] => Array.from({ length: views }, () => random([count, 4]));

for (const [name, objective, betas] of [
  ['debiased', debiased, [0]],
  ['hardNegative', hardNegative, [0, 0.5, 2]],
] as const) {
  describe(name, () => {
    it('equals a loop', () => {
      scope(() => {
        for (const count of [1, 2, 3, 5, 23]) {
          for (const tensors of [viewsOf(2, count), viewsOf(3, count)]) {
            for (const beta of betas) {
              // Of 0.6 the correction is often below the least that it may be.
              for (const tauPlus of [0, 0.1, 0.6]) {
                const expected = byLoop(tensors, 0.5, tauPlus, beta);
                for (const execution of ['dense', 'tiled'] as const) {
                  const options = { tauPlus, beta, execution };
                  const each = objective(tensors, { ...options, reduction: 'none' });
                  assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
                  assertValue(objective(tensors, options), mean(expected));
                }
              }
            }
          }
        }
      });
    });

    it('refuses what does not fit', () => {
      const views = viewsOf(2, 3);
      assertRefuses(() => objective(views, { tauPlus: 1 }), /: tauPlus must be a number at least 0 and at most 0.99/);
      assertRefuses(() => objective(views, { temperature: 0 }), /: temperature must be a number above 0/);
      assertRefuses(() => objective(views.slice(1)), /: views must be two tensors or more/);
    });
  });
}

describe('debiased and hardNegative', () => {
  it('are NT-Xent without a correction', () => {
    scope(() => {
      const views = viewsOf(2, 9);
      assertClose(debiased(views, { tauPlus: 0 }), ntXent(views), { atol: 1e-12 });
      assertClose(hardNegative(views, { tauPlus: 0, beta: 0 }), ntXent(views), { atol: 1e-12 });
    });
  });

  it('are exact where exponentials are beyond the range of numbers', () => {
    scope(() => {
      // Cosines 1 with the positive and −1 with all negatives, at τ = 0.005: the bound holds, whose logarithm is log 4 − 200.
      const view = torch.tensor([[1, 0], [-1, 0], [-1, 0]]); // prettier-ignore
      const losses = hardNegative([view, view], { temperature: 0.005, reduction: 'none' });
      assertValue(losses.at(0), Math.log1p(Math.exp(-400)), 'loss', 1e-12);
    });
    assertRefuses(() => hardNegative(viewsOf(2, 2), { beta: -1 }), /hardNegative: beta must be a number at least 0/);
  });
});
