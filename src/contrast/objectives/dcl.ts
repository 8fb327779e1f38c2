import { torch, type Tensor } from '../../torch';
import { whereAny } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { contrast } from '../contrast';
import { decoupledLink, defineLink } from '../link';
import type { CommonOptions, SimilarityOptions } from './common-options';
import { checkNumber, checkTemperature, widened } from './parts';
import { amongViews } from './views';

/** What {@link dcl} takes beside the views. */
export interface DclOptions extends SimilarityOptions {
  /** τ: a number, or a tensor of one element or one an anchor, [V·N]. Default 0.1, as in lightly. */
  temperature?: number | Tensor;
}

/**
 * DCL (Yeh et al. 2022, "Decoupled Contrastive Learning"): NT-Xent without the positives in the denominator, so that a positive that is
 * already close does not weaken the gradient of the negatives.
 *
 *     lossᵢ = −1/|P(i)| Σₚ sᵢₚ + log Σₙ exp(sᵢₙ),   s = similarity / τ
 *
 * with P(i) the other views of i's sample and n over all views of all other samples. It has no lower bound of 0. One sample alone has no
 * negatives and so the loss 0. Some code adds the means of the two views where this takes the mean of all anchors: twice this value, and a
 * gradient twice as long. What does not count is left out of the sum exactly, not by a large negative number, which shows at small τ.
 *
 * For self-supervised training with small batches.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or the temperature do not fit
 */
export function dcl(views: readonly Tensor[], options: DclOptions = {}): Tensor {
  const { temperature = 0.1, ...common } = options;
  return contrast({ ...common, ...amongViews(views, 'dcl'), temperature, link: decoupledLink });
}

/** What {@link dclW} takes beside the views. */
export interface DclWOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.1, as in lightly. */
  temperature?: number | Tensor;
  /** σ, the sharpness of the weights. Default 0.5, as in released code. */
  sigma?: number;
  /**
   * What the exponentials are divided by: their `'mean'` over the positive pairs of the batch (default, the paper's expectation, so that
   * weights are 1 on average), or their `'sum'`, as some code has it: all weights then come close to 2 as the batch grows.
   */
  normalize?: 'mean' | 'sum';
  /** Whether weights get no gradient, as in lightly. Default false. */
  detachWeights?: boolean;
}

/**
 * DCLW (Yeh et al. 2022, "Decoupled Contrastive Learning"): {@link dcl} with weights for positives, greater where a positive is far from its
 * anchor.
 *
 *     lossᵢ = −1/|P(i)| Σₚ wᵢₚ cᵢₚ / τ + log Σₙ exp(cᵢₙ / τ)
 *     wᵢₚ = 2 − exp(cᵢₚ / σ) / mean over all positive pairs of exp(c / σ)
 *
 * with c the cosine. Gradients flow through the weights too, as in the PyTorch code of raminnakhli/Decoupled-Contrastive-Learning; lightly keeps them out. One
 * sample alone has no negatives and so the loss 0.
 *
 * For self-supervised training with small batches, where some positives are hard.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or options do not fit
 */
export function dclW(views: readonly Tensor[], options: DclWOptions = {}): Tensor {
  const { temperature = 0.1, sigma = 0.5, normalize = 'mean', detachWeights = false, ...common } = options;
  checkTemperature(temperature, 'dclW');
  checkNumber(sigma, 'dclW: sigma', { above: true });
  const among = amongViews(views, 'dclW');
  return withoutAutocast(among.anchors, () => {
    const attraction = weightedPositives(views, sigma, normalize, detachWeights).div(temperature);
    const link = defineLink({
      name: 'weighted decoupled softmax',
      needs: decoupledLink.needs,
      loss: ({ negatives }) => whereAny(negatives, (some) => some.sub(attraction)),
    });
    return contrast({ ...common, ...among, temperature, link });
  });
}

/** The mean of w·c over each anchor's positives, [V·N]. */
function weightedPositives(
  views: readonly Tensor[],
  sigma: number,
  normalize: 'mean' | 'sum',
  isFixed: boolean,
): Tensor {
  const count = views.length;
  // [N, V, V]: the cosines of the views of each sample.
  const units = torch.stack(
    widened(...views).map((view) => functional.normalize(view)),
    1,
  );
  const cosines = units.matmul(units.transpose(1, 2));
  const others = torch.eye(count, { dtype: 'bool', device: cosines.device }).logicalNot();
  const pairs = cosines.maskedSelect(others).view([-1, count, count - 1]);
  const shares = pairs.div(sigma).flatten().softmax(0).view(pairs.shape);
  // Every pair is here twice, once from each side.
  const weights = shares.mul(normalize === 'mean' ? -shares.numel() : -2).add(2);
  return (isFixed ? weights.detach() : weights).mul(pairs).mean([2]).t().reshape([-1]);
}
