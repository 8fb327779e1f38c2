import type { Tensor } from '../../torch';
import { contrast } from '../contrast';
import type { SimilarityOptions } from './common-options';
import { checkPaired, checkTemperature, positionsOf } from './parts';

/** What {@link clip} takes beside the embeddings. */
export interface ClipOptions extends SimilarityOptions {
  /**
   * τ: a number, or a tensor of one element, which {@link LogitScale.temperature} gives where it shall learn. Default 0.07, from which
   * CLIP's learnable temperature starts.
   */
  temperature?: number | Tensor;
  /**
   * Which side gets no gradient: `'first'` or `'second'` makes it LiT (Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text
   * Tuning"), where only the other tower learns. Default: both learn.
   */
  frozen?: 'first' | 'second';
}

/**
 * The objective of CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"): the mean of the
 * cross-entropies of both directions, each with the other rows of the batch as negatives.
 *
 *     loss = −1/2N Σᵢ [ log( exp(sᵢᵢ) / Σⱼ exp(sᵢⱼ) ) + log( exp(sᵢᵢ) / Σⱼ exp(sⱼᵢ) ) ],   s = similarity / τ
 *
 * Both directions come from one pass through the scores. One pair alone has the loss 0.
 *
 * For two encoders of what belongs together in pairs: image and text, sound and text, question and answer.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]: row i belongs to row i of `first`
 * @returns the loss without dimensions; with reduction `'none'` [N], the mean of both directions for each pair
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function clip(first: Tensor, second: Tensor, options: ClipOptions = {}): Tensor {
  const { temperature = 0.07, frozen, ...common } = options;
  checkPaired(first, second, 'clip');
  checkTemperature(temperature, 'clip');
  const labels = positionsOf(first.sizeOf(0), first);
  return contrast({
    ...common,
    anchors: frozen === 'first' ? first.detach() : first,
    candidates: { embeddings: frozen === 'second' ? second.detach() : second, labels },
    labels,
    temperature,
    symmetric: true,
  });
}
