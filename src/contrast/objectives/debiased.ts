import { torch, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { contrast } from '../contrast';
import { defineLink, type Link, type Need } from '../link';
import type { CommonOptions } from './common-options';
import { checkNumber, checkTemperature } from './parts';
import { amongViews } from './views';

/** What {@link debiased} takes beside the views. */
export interface DebiasedOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.5, as in the authors' code. */
  temperature?: number | Tensor;
  /** τ⁺, the share of negatives that belong to the anchor's class: 1 / classes where these are alike. From 0 to below 1; default 0.1. */
  tauPlus?: number;
}

/**
 * Debiased contrastive learning (Chuang et al. 2020, "Debiased Contrastive Learning"): NT-Xent whose negatives are corrected for those
 * that are of the anchor's class, which nobody knows but in number.
 *
 *     lossᵢ = −1/M Σₚ log( exp(sᵢₚ) / (exp(sᵢₚ) + N·gᵢ) ),   s = cosine / τ
 *     gᵢ = max( (1/N Σₙ exp(sᵢₙ) − τ⁺ · 1/M Σₚ exp(sᵢₚ)) / (1 − τ⁺),  exp(−1/τ) )
 *
 * over the M other views of i's sample and the N views of other samples. The bound exp(−1/τ) is the least that the exponential of a
 * cosine can be; where it holds, the negatives have no gradient. With two views it is the authors' code; with more, each positive stands
 * in the numerator in turn and their mean in the correction. With τ⁺ = 0 and two views it is NT-Xent. One sample alone has the loss 0.
 *
 * For self-supervised training on data with few classes, where a batch holds many of each.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or options do not fit
 */
export function debiased(views: readonly Tensor[], options: DebiasedOptions = {}): Tensor {
  const { temperature = 0.5, tauPlus = 0.1, ...common } = options;
  return correctedForClass(views, 'debiased', { ...common, temperature, tauPlus, beta: 0 });
}

/** {@link debiased}, and with a β above 0 the objective of hard negatives on top of it. */
export function correctedForClass(
  views: readonly Tensor[],
  what: string,
  options: CommonOptions & { temperature: number | Tensor; tauPlus: number; beta: number },
): Tensor {
  const { temperature, tauPlus, beta, ...common } = options;
  checkTemperature(temperature, what);
  checkNumber(tauPlus, `${what}: tauPlus`, { high: 1 - Number.EPSILON });
  checkNumber(beta, `${what}: beta`);
  const among = amongViews(views, what);
  const link = correctedLink({ temperature, tauPlus, beta, isSinglePositive: views.length === 2 });
  return contrast({ ...common, ...among, temperature, link });
}

function correctedLink(options: {
  temperature: number | Tensor;
  tauPlus: number;
  beta: number;
  isSinglePositive: boolean;
}): Link {
  const { temperature, tauPlus, beta, isSinglePositive } = options;
  const negatives = (power: number): Need => ({ kind: 'logSumExp', over: 'negatives', power });
  const needs: Record<string, Need> = {
    negatives: negatives(1 + beta),
    ...(beta > 0 && { weights: negatives(beta) }),
    negativeCount: { kind: 'count', over: 'negatives' },
    positives: { kind: 'logSumExp', over: 'positives' },
    count: { kind: 'count', over: 'positives' },
    own: { kind: 'sum', over: 'positives' },
  };
  return defineLink({
    name: 'debiased softmax',
    needs,
    loss: (values, { more }) => {
      const { positives, count, own, negativeCount } = values;
      const none = negativeCount.eq(0);
      const zero = own.newZeros([]);
      const filled = (x: Tensor): Tensor => torch.where(none, zero, x);
      const logCount = negativeCount.clampMin(1).log();
      // N times the mean of exp(s), weighted by exp(βs) where β is above 0.
      const all =
        beta > 0 ? filled(values.negatives).sub(filled(values.weights)).add(logCount) : filled(values.negatives);
      const falseOnes = positives.sub(count.log()).add(logCount).add(Math.log(tauPlus));
      const corrected = logOfDifference(all, falseOnes).sub(Math.log1p(-tauPlus));
      const scale =
        typeof temperature === 'number'
          ? 1 / temperature
          : temperature.to({ dtype: own.dtype }).reciprocal().reshape([]);
      const least = logCount.sub(scale);
      const sum = torch.where(all.gt(falseOnes).logicalAnd(corrected.gt(least)), corrected, least);
      const losses = isSinglePositive
        ? softplus(sum.sub(own))
        : more({ all: { kind: 'softplus', over: 'positives', power: -1, offset: sum } }).all.div(count);
      return torch.where(none, zero, losses);
    },
  });
}

/** log(exp(a) − exp(b)) where a > b; elsewhere some number, whose gradient is one too. */
function logOfDifference(a: Tensor, b: Tensor): Tensor {
  return a.add(b.sub(a).clampMax(-1e-12).expm1().neg().log());
}
