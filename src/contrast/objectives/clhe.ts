import { torch, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import type { CommonOptions } from './common-options';
import { checkNumber, checkPaired, checkTemperature, positionsOf } from './parts';

/** What {@link clhe} takes beside the views. */
export interface ClheOptions extends Pick<CommonOptions, 'execution'> {
  /** Default 1. */
  itemWeight?: number;
  /** Default 1. */
  bundleWeight?: number;
  /** τ of the items. Default 0.2, as in the authors' function; their runs choose it for each data set. */
  itemTemperature?: number | Tensor;
  /** τ of the bundles. Default 0.2. */
  bundleTemperature?: number | Tensor;
}

/**
 * The contrastive terms of CLHE (Ma et al. 2024, "Leveraging Multimodal Features and Item-level User Feedback for Bundle Construction"): two
 * perturbed views of each item of the batch, and two of each bundle, belong together.
 *
 *     loss = α₁·InfoNCE(items) + α₂·InfoNCE(bundles),   InfoNCE(a, b) = −1/N Σᵢ log( exp(cos(aᵢ, bᵢ)/τ) / Σⱼ exp(cos(aᵢ, bⱼ)/τ) )
 *
 * One direction each, as in the authors' code, where views of items come from dropout, noise or modalities left out, and those of bundles from
 * items left out or exchanged. They are added to the loss of the bundles' construction. A weight of 0 leaves a term out.
 *
 * For recommending bundles of items that have features of several kinds.
 *
 * @param items two views, [N, D] each, of any floating-point dtype
 * @param bundles two views, [M, E] each
 * @returns the loss, without dimensions
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function clhe(
  items: readonly [Tensor, Tensor],
  bundles: readonly [Tensor, Tensor],
  options: ClheOptions = {},
): Tensor {
  const { itemWeight = 1, bundleWeight = 1, itemTemperature = 0.2, bundleTemperature = 0.2, execution } = options;
  const terms = [
    { name: 'items', views: items, weight: itemWeight, temperature: itemTemperature },
    { name: 'bundles', views: bundles, weight: bundleWeight, temperature: bundleTemperature },
  ];
  for (const { name, views, weight, temperature } of terms) {
    checkPaired(views[0], views[1], 'clhe', [`${name}[0]`, `${name}[1]`]);
    checkNumber(weight, `clhe: weight of ${name}`);
    checkTemperature(temperature, `clhe: ${name}`);
  }
  const losses = terms
    .filter(({ weight }) => weight > 0)
    .map(({ views: [anchors, embeddings], weight, temperature }) => {
      const labels = positionsOf(anchors.sizeOf(0), anchors);
      return contrast({ anchors, candidates: { embeddings, labels }, labels, temperature, execution }).mul(weight);
    });
  return losses.length === 0 ? torch.zeros([], { device: items[0].device }) : losses.reduce((a, b) => a.add(b));
}
