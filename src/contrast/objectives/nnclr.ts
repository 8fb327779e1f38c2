/** NNCLR: nearest neighbours as positives. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkDevice, checkPaired, checkShape, checkTemperature, positionsOf, widened } from './parts';

/** Gives each row of [N, D] its nearest neighbour, [N, D]: an approximate index, a bank on another device. */
export type NeighborLookup = (embeddings: Tensor) => Tensor;

/** What {@link nnclr} takes beside the projections. */
export interface NnclrOptions extends CommonOptions {
  /** What the predictor makes of both projections, [N, D] each. Default: the projections themselves. */
  predictions?: readonly [first: Tensor, second: Tensor];
  /** τ: a number, or a tensor of one element. Default 0.1, as in the paper and in solo-learn; lightly's softmax has 0.5 unless told. */
  temperature?: number | Tensor;
  /**
   * Whether each softmax goes over the neighbours as well, for each prediction: the paper's text has both, by memory. Default false, as in
   * solo-learn: over the predictions, for each neighbour.
   */
  bothDirections?: boolean;
}

/** Scores that are held at once. */
const CHUNK = 1 << 22;

/**
 * The nearest neighbour of each embedding by cosine, exactly, a chunk of rows at a time. Nothing has a gradient.
 *
 * @param embeddings [N, D]
 * @param support [K, D]: where to look
 * @returns [N, D], rows of `support` as they are there; of several that are equally near, one
 * @throws InvalidArgumentError if shapes or devices do not fit
 */
export function nearestInSupport(embeddings: Tensor, support: Tensor): Tensor {
  checkEmbeddings(embeddings, 'nearestInSupport: embeddings');
  checkEmbeddings(support, 'nearestInSupport: support', embeddings.sizeOf(1));
  checkDevice(support, embeddings, 'nearestInSupport: support');
  return withoutAutocast(embeddings, () =>
    noGrad(() => {
      const [x, bank] = widened(embeddings, support).map((y) => functional.normalize(y)) as [Tensor, Tensor];
      const rows = Math.max(1, Math.floor(CHUNK / bank.sizeOf(0)));
      const nearest = x.split(rows).map((some) => scope(() => some.matmul(bank.t()).argmax(1)));
      return support.detach().indexSelect(0, torch.cat(nearest));
    }),
  );
}

/**
 * NNCLR (Dwibedi, Aytar, Tompson, Sermanet and Zisserman 2021, "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of
 * Visual Representations"): the anchor is not a sample's first view but that view's nearest neighbour among earlier samples, so that positives
 * differ by more than augmentation.
 *
 *     lossᵢ = ½ [ ℓ(nn(zᵢ), p⁺) + ℓ(nn(zᵢ⁺), p) ],   ℓ(nn(zᵢ), p) = −log( exp(nn(zᵢ)·pᵢ/τ) / Σₖ exp(nn(zᵢ)·pₖ/τ) )
 *
 * z, z⁺ are the projections of both views and p, p⁺ their predictions, all of length one. Neighbours have no gradient. With `bothDirections` ℓ
 * is the mean with −log( exp(nn(zᵢ)·pᵢ/τ) / Σₖ exp(nn(zₖ)·pᵢ/τ) ). The support set is the caller's: a queue of earlier
 * projections, which gets this batch's after the step.
 *
 * For self-supervised training where augmentations alone make positives too alike.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]: row i is the other view of row i
 * @param support [K, D], among which {@link nearestInSupport} looks, or a function that gives the neighbours
 * @returns the loss without dimensions; with reduction `'none'` [N]. One sample alone has the loss 0
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function nnclr(
  first: Tensor,
  second: Tensor,
  support: Tensor | NeighborLookup,
  options: NnclrOptions = {},
): Tensor {
  const { predictions = [first, second], temperature = 0.1, bothDirections = false, ...common } = options;
  checkPaired(first, second, 'nnclr');
  checkTemperature(temperature, 'nnclr');
  predictions.forEach((prediction, i) => {
    checkEmbeddings(prediction, `nnclr: predictions[${i}]`, first.sizeOf(1), first.sizeOf(0));
    checkDevice(prediction, first, `nnclr: predictions[${i}]`);
  });
  if (typeof support !== 'function') {
    checkEmbeddings(support, 'nnclr: support', first.sizeOf(1));
    checkDevice(support, first, 'nnclr: support');
  }
  const labels = positionsOf(first.sizeOf(0), first);
  const half = (view: Tensor, prediction: Tensor): Tensor =>
    contrast({
      ...common,
      anchors: neighborsOf(view, support),
      candidates: { embeddings: prediction, labels },
      labels,
      temperature,
      symmetric: bothDirections,
    });
  return half(first, predictions[1]).add(half(second, predictions[0])).div(2);
}

function neighborsOf(view: Tensor, support: Tensor | NeighborLookup): Tensor {
  if (typeof support !== 'function') return nearestInSupport(view, support);
  const neighbors = support(view.detach());
  checkShape(neighbors, view.shape, 'nnclr: neighbours that support gives');
  if (!neighbors.isFloatingPoint()) {
    throw new InvalidArgumentError(
      `nnclr: neighbours that support gives must be floating-point, found ${neighbors.dtype}`,
    );
  }
  return neighbors.detach();
}
