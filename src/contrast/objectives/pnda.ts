/** PNDA: rotated copies as positives or negatives, image by image. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import { checkDevice, checkPaired, checkShape, checkTemperature, positionsOf, type Reduction } from './parts';

/** What {@link pnda} takes beside the embeddings. */
export interface PndaOptions {
  /** τ. Default 0.5. */
  temperature?: number | Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * PNDA (Miyai, Yu, Ikami, Yamasaki and Aizawa 2023, "Rethinking Rotation in Self-Supervised Contrastive Learning: Adaptive Positive or Negative Data
 * Augmentation"): an image's rotated copies are its positives where rotation does not change what it shows, and else its negatives.
 *
 *     Lᵢ = 1/|Pᵢ| Σ_{p∈Pᵢ} −log( exp(sᵢₚ/τ) / Σ_{j≠i} exp(sᵢⱼ/τ) )
 *
 * for the 2N views that are not rotated; P is the other view, and the rotated copies if `similar`. All views and copies are in the sum. Which
 * images are similar to their rotated copies is found before, from how well a model tells rotations, and comes from outside.
 *
 * @param first [N, D]
 * @param second [N, D]: row i is the other view of row i
 * @param rotated at least one tensor [N, D]: row i is a rotated copy of image i
 * @param similar bool [N]: whether an image's rotated copies are positives
 * @returns the loss without dimensions, or [2N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes do not fit
 */
export function pnda(
  first: Tensor,
  second: Tensor,
  rotated: readonly Tensor[],
  similar: Tensor,
  options: PndaOptions = {},
): Tensor {
  const { temperature = 0.5, reduction, execution } = options;
  checkPaired(first, second, 'pnda');
  checkTemperature(temperature, 'pnda');
  const [count, dimension] = [first.sizeOf(0), first.sizeOf(1)];
  if (rotated.length === 0) throw new InvalidArgumentError('pnda: there are no rotated copies');
  rotated.forEach((copies, i) => {
    checkEmbeddings(copies, `pnda: rotated ${i}`, dimension, count);
    checkDevice(copies, first, `pnda: rotated ${i}`);
  });
  if (similar.dtype !== 'bool') throw new InvalidArgumentError(`pnda: similar must be bool, found ${similar.dtype}`);
  checkShape(similar, [count], 'pnda: similar');
  checkDevice(similar, first, 'pnda: similar');
  const images = positionsOf(count, first);
  const anchors = torch.cat([first, second]);
  const labels = torch.cat([images, images]);
  // A copy that is no positive has a label that no anchor has.
  const copied = torch.where(similar, images, images.add(count));
  const embeddings = torch.cat([anchors, ...rotated]);
  return contrast({
    anchors,
    candidates: {
      embeddings,
      labels: torch.cat([labels, ...rotated.map(() => copied)]),
      ids: positionsOf(embeddings.sizeOf(0), first),
    },
    labels,
    ids: positionsOf(2 * count, first),
    temperature,
    reduction,
    execution,
  });
}
