import { InvalidArgumentError, noGrad, type Tensor } from '../../torch';
import { softplus, whereAny } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import { defineLink } from '../link';
import { pairedSimilarity } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkNumber, checkPaired, positionsOf, widened } from './parts';
import { amongViews } from './views';

/** What {@link macl} takes beside the views. */
export interface MaclOptions extends CommonOptions {
  /** τ₀, the temperature where the alignment is A₀. Default 0.1, as in the authors' code and in lightly. */
  temperature?: number;
  /** α, how far alignment changes the temperature. Default 0.5, as in lightly; the authors' code has 1, and 2 for `'exponential'`. */
  alpha?: number;
  /** A₀, from 0 to 1. Default 0. */
  initialAlignment?: number;
  /** Whether τ = τ₀·(1 + α(A − A₀)), `'linear'` (default, the paper's), or τ₀·α^(A − A₀), `'exponential'`, as the authors' code also has. */
  adaption?: 'linear' | 'exponential';
  /**
   * What an anchor is compared with: `'allViews'`, both views as in NT-Xent and in lightly (default), or `'otherView'`, that of all samples,
   * as in the authors' code; here both directions are averaged, there the first one is taken.
   */
  candidates?: 'otherView' | 'allViews';
}

/** The least share of τ₀ that the temperature may become. */
const LEAST = 0.01;

/**
 * −log P / (1 − P), where the factor has no gradient. With x = log Σₙ exp(sₙ) − s, P is sigmoid(−x): the gradient of −log P is sigmoid(x)
 * for x, and the factor 1 / sigmoid(x), so that the whole has the gradient of x itself.
 */
const reweightedLink = defineLink({
  name: 'reweighted softmax',
  needs: { negatives: { kind: 'logSumExp', over: 'negatives' }, own: { kind: 'sum', over: 'positives' } },
  loss: ({ negatives, own }) =>
    whereAny(negatives, (some) => {
      const x = some.sub(own);
      const fixed = x.detach();
      // Where x is far below 0 both parts of the quotient vanish, and it is 1.
      const clamped = fixed.clampMin(-30);
      return softplus(clamped).div(clamped.sigmoid()).add(x.sub(fixed));
    }),
});

/**
 * MACL (Huang et al. 2023, "Model-Aware Contrastive Learning: Towards Escaping the Dilemmas"): the temperature rises with how well positives are
 * aligned, so that hard negatives count most while the model is weak and less once they may be false; and a loss is weighted so that its
 * gradient does not vanish with few or easy negatives.
 *
 *     lossᵢ = −log Pᵢ / (1 − Pᵢ),   Pᵢ = exp(sᵢ⁺) / (exp(sᵢ⁺) + Σₙ exp(sᵢₙ)),   s = cosine / τ
 *     τ = τ₀·(1 + α·(A − A₀)),      A = the mean cosine of positive pairs in the batch
 *
 * Neither A nor the factor 1 / (1 − P) has a gradient, so that the loss has that of the decoupled softmax, log Σₙ exp(sₙ) − s⁺, at the
 * adapted temperature. τ does not fall below a hundredth of τ₀. One sample alone has no negatives, and the loss 0; the authors' code divides by
 * 0 there. The value is 1 for perfect pairs, not 0.
 *
 * For self-supervised training with small batches, where the best temperature changes along the way.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss without dimensions; with reduction `'none'` [2N], view by view, or [N] with `'otherView'`
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function macl(first: Tensor, second: Tensor, options: MaclOptions = {}): Tensor {
  const { temperature = 0.1, alpha = 0.5, initialAlignment = 0, adaption = 'linear', ...rest } = options;
  const { candidates = 'allViews', ...common } = rest;
  checkPaired(first, second, 'macl');
  checkNumber(temperature, 'macl: temperature', { above: true });
  checkNumber(alpha, 'macl: alpha', { above: adaption === 'exponential' });
  checkNumber(initialAlignment, 'macl: initialAlignment', { high: 1 });
  if (adaption !== 'linear' && adaption !== 'exponential') {
    throw new InvalidArgumentError(`macl: adaption must be 'linear' or 'exponential', found '${String(adaption)}'`);
  }
  if (candidates !== 'otherView' && candidates !== 'allViews') {
    throw new InvalidArgumentError(`macl: candidates must be 'otherView' or 'allViews', found '${String(candidates)}'`);
  }
  const adapted = noGrad(() =>
    withoutAutocast(first, () => {
      const gain = pairedSimilarity(...widened(first, second))
        .mean()
        .sub(initialAlignment);
      const factor = adaption === 'linear' ? gain.mul(alpha).add(1) : gain.mul(Math.log(alpha)).exp();
      return factor.clampMin(LEAST).mul(temperature);
    }),
  );
  const how = { ...common, temperature: adapted, link: reweightedLink };
  if (candidates === 'allViews') return contrast({ ...how, ...amongViews([first, second], 'macl') });
  const labels = positionsOf(first.sizeOf(0), first);
  return contrast({ ...how, anchors: first, candidates: { embeddings: second, labels }, labels, symmetric: true });
}
