import { InvalidArgumentError, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { checkEmbeddings, type Similarity } from '../similarity';
import type { Pairs } from '../statistics';
import { comparable, negativeSums, ownSums, together, type NegativeSums } from './blocks';
import type { CommonOptions } from './common-options';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  checkTemperature,
  positionsOf,
  reduced,
  widened,
} from './parts';

/** What {@link multipleNegatives} takes beside the pairs. */
export interface MultipleNegativesOptions extends CommonOptions {
  /** Hard negatives: [M, D], those of all anchors, or [N, K, D], found for one anchor each. */
  negatives?: Tensor;
  /**
   * Whether hard negatives found for one anchor, [N, K, D], are negatives of all others too (default, as in sentence-transformers) or only
   * its own.
   */
  shareNegatives?: boolean;
  /** Whether the other anchors are negatives of an anchor. Default false. */
  contrastAnchors?: boolean;
  /** Whether the other positives, and shared hard negatives found for others, are negatives of a positive. Default false. */
  contrastPositives?: boolean;
  /** Whether the other anchors are negatives of a positive. Default false. */
  bothDirections?: boolean;
  /**
   * Whether all negatives of a pair are in one softmax, `'joint'` (default), or those of the anchor in one and those of the positive in
   * another, `'perDirection'`, whose losses are averaged. The second needs `bothDirections`.
   */
  softmax?: 'joint' | 'perDirection';
  /** τ: a number, or a tensor of one element. Default 0.05: the scale of 20 that sentence-transformers has. */
  temperature?: number | Tensor;
  /** The cosine (default) or the dot product. */
  similarity?: Similarity;
  /** Taken off the similarity of positives, before the temperature (additive margin softmax). Default 0. */
  margin?: number;
  /** ε, the share of the target that is spread evenly over all candidates of a softmax. From 0 to 1; default 0. */
  labelSmoothing?: number;
  /**
   * int64 [N]: pairs with one id are no negatives of each other, for batches in which a question or an answer comes twice. Default: all
   * differ.
   */
  ids?: Tensor;
  /**
   * Leaves out negatives whose similarity is above that of the anchor and its positive by more than this: they may be unlabelled positives.
   * Qwen3 Embedding (Zhang et al. 2025) takes 0.1. Default: none is left out.
   */
  falseNegativeMargin?: number;
}

/**
 * Multiple negatives ranking (Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply"), the in-batch softmax
 * of retrieval, with its later additions:
 *
 *     lossᵢ = −log( exp(sᵢ) / (exp(sᵢ) + Zᵢ) ),   sᵢ = (similarity(aᵢ, pᵢ) − margin) / τ
 *     Zᵢ = Σ_{j≠i} exp(aᵢ·pⱼ) + Σₙ exp(aᵢ·n)     always: other positives, and hard negatives
 *        + Σ_{j≠i} exp(aᵢ·aⱼ)                    with contrastAnchors
 *        + Σ_{j≠i} exp(pᵢ·pⱼ) + Σₙ exp(pᵢ·n)     with contrastPositives; of n those that were not found for i
 *        + Σⱼ exp(pᵢ·aⱼ)                         with bothDirections
 *
 * With `bothDirections` in one softmax the pair itself is in the last sum again, so that the loss cannot be below log 2: so it is in "Towards
 * General Text Embeddings with Multi-stage Contrastive Learning" (Li et al. 2023), which has all four sums, and in sentence-transformers.
 * Per direction it is not: there the anchor's softmax has the first two lines, the positive's the other two without the pair itself, and
 * the loss is their mean. With all options on but no hard negatives that is NT-Xent, with `bothDirections` alone the objective of CLIP.
 *
 * Label smoothing takes the target (1 − ε) for the positive and ε spread over all candidates. A pair without negatives has the loss 0
 * (log 2 with both directions in one softmax).
 *
 * For text retrieval on pairs of query and passage, with or without mined hard negatives.
 *
 * @param anchors [N, D], of any floating-point dtype
 * @param positives [N, D]: row i is the positive of anchor i
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit, or exclude each other
 */
export function multipleNegatives(anchors: Tensor, positives: Tensor, options: MultipleNegativesOptions = {}): Tensor {
  check(anchors, positives, options);
  const { bothDirections = false, contrastAnchors = false, contrastPositives = false, softmax = 'joint' } = options;
  const { temperature = 0.05, similarity = 'cosine', margin = 0, labelSmoothing = 0, falseNegativeMargin } = options;
  const { execution = 'auto', reduction = 'mean', shareNegatives = true } = options;
  return withoutAutocast(anchors, () => {
    const given = widened(anchors, positives, ...(options.negatives === undefined ? [] : [options.negatives]));
    const [a, p] = given.map((x) => comparable(x, similarity)) as [Tensor, Tensor];
    const count = a.sizeOf(0);
    const ids = options.ids ?? positionsOf(count, a);
    const hard = hardNegatives(given[2] && comparable(given[2], similarity), ids, shareNegatives);
    const similarities = a.mul(p).sum([1]);
    const own = similarities.sub(margin).div(temperature);

    const limits = falseNegativeMargin === undefined ? undefined : similarities.detach().add(falseNegativeMargin);
    const block = (rows: Tensor, columns: Tensor, columnIds: Tensor | undefined): Pairs => ({
      rows: rows.div(temperature),
      columns,
      ...(columnIds && { rowIds: ids, columnIds }),
      ...(limits && { rowGuides: rows.detach(), columnGuides: columns.detach(), guideLimits: limits }),
    });
    const how = { execution, mean: labelSmoothing > 0 };
    const sums = (rows: Tensor, columns: Tensor, columnIds?: Tensor): NegativeSums =>
      negativeSums(block(rows, columns, columnIds), ['rows'], how).rows;

    const ofAnchors: NegativeSums[] = [];
    const ofPositives: NegativeSums[] = [];
    if (bothDirections && limits === undefined) {
      // The scores of both directions are the same, and so is what ids leave out; limits differ.
      const both = negativeSums(block(a, p, ids), ['rows', 'columns'], how);
      ofAnchors.push(both.rows);
      ofPositives.push(both.columns);
    } else {
      ofAnchors.push(sums(a, p, ids));
      if (bothDirections) ofPositives.push(sums(p, a, ids));
    }
    if (hard.shared !== undefined) ofAnchors.push(sums(a, hard.shared));
    if (hard.own !== undefined) {
      const scores = hard.own.matmul(a.unsqueeze(2)).squeeze(2);
      ofAnchors.push(ownSums(scores.div(temperature), limits && scores.detach().le(limits.unsqueeze(1))));
    }
    if (contrastAnchors) ofAnchors.push(sums(a, a, ids));
    if (contrastPositives) {
      ofPositives.push(sums(p, p, ids));
      if (hard.shared !== undefined) ofPositives.push(sums(p, hard.shared, hard.ids));
    }
    const losses =
      softmax === 'perDirection'
        ? lossOf(own, ofAnchors, 1, labelSmoothing)
            .add(lossOf(own, ofPositives, 1, labelSmoothing))
            .div(2)
        : lossOf(own, [...ofAnchors, ...ofPositives], bothDirections ? 2 : 1, labelSmoothing);
    return reduced(losses, reduction);
  });
}

/** −log of the positive's share, with the pair `times` in the denominator, smoothed. */
function lossOf(own: Tensor, sets: readonly NegativeSums[], times: number, smoothing: number): Tensor {
  const { log, sum, count } = together(sets);
  const loss = softplus(log.sub(own).sub(Math.log(times))).add(Math.log(times));
  if (smoothing === 0) return loss;
  const mean = sum.add(own.mul(times)).div(count.add(times));
  return loss.add(own.sub(mean).mul(smoothing));
}

interface HardNegatives {
  /** [M, D], with the ids of the pairs that they were found for. */
  readonly shared?: Tensor;
  readonly ids?: Tensor;
  /** [N, K, D] */
  readonly own?: Tensor;
}

function hardNegatives(negatives: Tensor | undefined, ids: Tensor, isShared: boolean): HardNegatives {
  if (negatives === undefined) return {};
  if (negatives.ndim === 2) return { shared: negatives };
  if (!isShared) return { own: negatives };
  return { shared: negatives.flatten(0, 1), ids: ids.repeatInterleave(negatives.sizeOf(1)) };
}

function check(anchors: Tensor, positives: Tensor, options: MultipleNegativesOptions): void {
  const { negatives, temperature = 0.05, margin = 0, labelSmoothing = 0, falseNegativeMargin = 0, ids } = options;
  const { softmax = 'joint', bothDirections = false } = options;
  const what = 'multipleNegatives';
  checkPaired(anchors, positives, what, ['anchors', 'positives']);
  checkTemperature(temperature, what);
  checkNumber(margin, `${what}: margin`, { low: -Infinity });
  checkNumber(labelSmoothing, `${what}: labelSmoothing`, { high: 1 });
  checkNumber(falseNegativeMargin, `${what}: falseNegativeMargin`, { low: -Infinity });
  const [count, dimension] = anchors.shape as readonly [number, number];
  if (ids !== undefined) checkIds(ids, count, `${what}: ids`, anchors);
  if (softmax !== 'joint' && softmax !== 'perDirection') {
    throw new InvalidArgumentError(`${what}: softmax must be 'joint' or 'perDirection', found '${String(softmax)}'`);
  }
  if (softmax === 'perDirection' && !bothDirections) {
    throw new InvalidArgumentError(`${what}: a softmax per direction needs bothDirections`);
  }
  if (negatives === undefined) return;
  if (negatives.ndim === 3) {
    if (negatives.sizeOf(0) !== count) {
      const found = `[${negatives.shape.join(', ')}]`;
      throw new InvalidArgumentError(
        `${what}: negatives: expected shape [M, ${dimension}] or [${count}, K, ${dimension}], found ${found}`,
      );
    }
    checkEmbeddings(negatives.flatten(0, 1), `${what}: negatives`, dimension);
  } else checkEmbeddings(negatives, `${what}: negatives`, dimension);
  checkDevice(negatives, anchors, `${what}: negatives`);
}
