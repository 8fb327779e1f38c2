import type { Tensor } from '../../torch';
import { contrast } from '../contrast';
import type { SimilarityOptions } from './common-options';
import { amongViews } from './views';

/** What {@link ntXent} takes beside the views. */
export interface NtXentOptions extends SimilarityOptions {
  /**
   * τ: a number, or a tensor of one element or one an anchor, [V·N]. Default 0.5, as in SimCLR's runs on CIFAR-10 and in lightly;
   * SimCLR's runs on ImageNet have 0.1, pytorch-metric-learning 0.07.
   */
  temperature?: number | Tensor;
}

/**
 * NT-Xent (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", SimCLR): every view of every sample
 * is an anchor, the sample's other views are its positives, and the views of other samples its negatives.
 *
 *     lossᵢ = −1/|P(i)| Σₚ log( exp(sᵢₚ) / Σ_{k ≠ i} exp(sᵢₖ) ),   s = similarity / τ
 *
 * with P(i) the other views of i's sample. With more than two views the positives stay in each other's denominator, as in SupCon. An
 * anchor never meets itself. One sample alone has no negatives: with two views its loss is 0.
 *
 * For self-supervised training on two or more augmentations of each sample.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or the temperature do not fit
 */
export function ntXent(views: readonly Tensor[], options: NtXentOptions = {}): Tensor {
  const { temperature = 0.5, ...common } = options;
  return contrast({ ...common, ...amongViews(views, 'ntXent'), temperature });
}
