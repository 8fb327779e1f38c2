import type { Tensor } from '../../torch';
import type { CommonOptions } from './common-options';
import { correctedForClass } from './debiased';

/** What {@link hardNegative} takes beside the views. */
export interface HardNegativeOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.5, as in the authors' code. */
  temperature?: number | Tensor;
  /** β, how much hard negatives outweigh easy ones: 0 or more; default 1, as in the authors' code. With 0 it is {@link debiased}. */
  beta?: number;
  /** τ⁺, the share of negatives that belong to the anchor's class. From 0 to below 1; default 0.1, as in the authors' code. */
  tauPlus?: number;
}

/**
 * Contrastive learning with hard negatives (Robinson et al. 2021, "Contrastive Learning with Hard Negative Samples", HCL): negatives count by
 * how alike they are to the anchor, and are corrected for those of the anchor's class, as {@link debiased} does.
 *
 *     lossᵢ = −1/M Σₚ log( exp(sᵢₚ) / (exp(sᵢₚ) + N·gᵢ) ),   s = cosine / τ
 *     gᵢ = max( (1/N Σₙ wᵢₙ exp(sᵢₙ) − τ⁺ · 1/M Σₚ exp(sᵢₚ)) / (1 − τ⁺),  exp(−1/τ) )
 *     wᵢₙ = exp(β sᵢₙ) / (1/N Σₖ exp(β sᵢₖ))
 *
 * over the M other views of i's sample and the N views of other samples. β multiplies the score, which the temperature already divides.
 * Gradients flow through the weights, as in the authors' code. One sample alone has the loss 0.
 *
 * For self-supervised training where most negatives are easy.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or options do not fit
 */
export function hardNegative(views: readonly Tensor[], options: HardNegativeOptions = {}): Tensor {
  const { temperature = 0.5, beta = 1, tauPlus = 0.1, ...common } = options;
  return correctedForClass(views, 'hardNegative', { ...common, temperature, beta, tauPlus });
}
