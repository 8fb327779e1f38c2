/** Alignment and uniformity: what the contrastive loss strives for with many negatives, as two losses. */
import { InvalidArgumentError, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import { checkNumber, checkPaired, partitionLink, positionsOf, reduced, type Reduction, widened } from './parts';

/** What {@link alignmentLoss} takes beside the embeddings. */
export interface AlignmentOptions {
  /** α, the power of the distance. Default 2, as the authors. */
  power?: number;
  /** Whether embeddings are taken to length one first. Default true; the authors' functions expect it done. */
  normalize?: boolean;
  /** Default `'mean'`. */
  reduction?: Reduction;
}

/**
 * Alignment (Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere"):
 * how far apart positive pairs are.
 *
 *     Lᵢ = ‖xᵢ − yᵢ‖^α
 *
 * Alone it is least where all embeddings are equal: take it with {@link uniformityLoss}. As a metric, without gradients, it is `alignment`.
 *
 * @param first [N, D]
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes do not fit or the power is not positive
 */
export function alignmentLoss(first: Tensor, second: Tensor, options: AlignmentOptions = {}): Tensor {
  const { power = 2, normalize = true, reduction = 'mean' } = options;
  checkPaired(first, second, 'alignmentLoss');
  checkNumber(power, 'alignmentLoss: power', { above: true });
  return withoutAutocast(first, () => {
    const [x, y] = widened(first, second).map((z) => (normalize ? functional.normalize(z) : z));
    const squares = x!.sub(y!).square().sum([1]);
    // Below the second power the gradient of a distance of 0 is infinite; a clamped one has none.
    return reduced(power === 2 ? squares : squares.clampMin(1e-24).pow(power / 2), reduction);
  });
}

/** What {@link uniformityLoss} takes beside the embeddings. */
export interface UniformityOptions {
  /** t, by which squared distances are multiplied. Default 2, as the authors. */
  scale?: number;
  /** Whether embeddings are taken to length one first. Default true; the authors' function expects it done. */
  normalize?: boolean;
  execution?: Execution | 'auto';
}

/**
 * Uniformity (Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere"):
 * the logarithm of the mean Gaussian potential of all pairs. The lower, the more evenly embeddings lie on the sphere.
 *
 *     L = log( 1/(N(N−1)) Σᵢ Σ_{j≠i} exp(−t ‖xᵢ − xⱼ‖²) )
 *
 * @param embeddings [N, D], N at least 2
 * @returns the loss, without dimensions: between −4t and 0 for embeddings of length one
 * @throws InvalidArgumentError if there is no pair, or the scale is not positive
 */
export function uniformityLoss(embeddings: Tensor, options: UniformityOptions = {}): Tensor {
  const { scale = 2, normalize = true, execution } = options;
  checkEmbeddings(embeddings, 'uniformityLoss: embeddings');
  checkNumber(scale, 'uniformityLoss: scale', { above: true });
  const count = embeddings.sizeOf(0);
  if (count < 2) throw new InvalidArgumentError('uniformityLoss: one embedding has no pair; give at least two');
  return withoutAutocast(embeddings, () => {
    const [wide] = widened(embeddings);
    const x = normalize ? functional.normalize(wide) : wide;
    const ids = positionsOf(count, x);
    const sums = contrast({
      anchors: x,
      candidates: { embeddings: x, ids },
      ids,
      similarity: 'euclidean',
      temperature: 1 / scale,
      link: partitionLink,
      reduction: 'none',
      execution,
    });
    return sums.logsumexp([0]).sub(Math.log(count) + Math.log(count - 1));
  });
}

/** What {@link alignmentAndUniformity} takes beside the embeddings. */
export interface AlignmentAndUniformityOptions {
  /** α. Default 2. */
  power?: number;
  /** t. Default 2. */
  scale?: number;
  /** λ. Default 1; the authors weigh the two parts anew for each data set. */
  weight?: number;
  /** Default true. */
  normalize?: boolean;
  execution?: Execution | 'auto';
}

/**
 * Both parts as one loss (Wang and Isola 2020), instead of a softmax over negatives:
 *
 *     L = alignment(x, y) + λ · (uniformity(x) + uniformity(y)) / 2
 *
 * @param first [N, D], N at least 2
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss, without dimensions
 * @throws InvalidArgumentError as {@link alignmentLoss} and {@link uniformityLoss}
 */
export function alignmentAndUniformity(
  first: Tensor,
  second: Tensor,
  options: AlignmentAndUniformityOptions = {},
): Tensor {
  const { power, scale, weight = 1, normalize, execution } = options;
  checkNumber(weight, 'alignmentAndUniformity: weight');
  const near = alignmentLoss(first, second, { power, normalize });
  const even = [first, second].map((x) => uniformityLoss(x, { scale, normalize, execution }));
  return near.add(even[0]!.add(even[1]!).mul(weight / 2));
}
