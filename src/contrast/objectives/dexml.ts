import { InvalidArgumentError, noGrad, torch, type Tensor } from '../../torch';
import { softplus, whereAny } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import { defineLink } from '../link';
import { checkEmbeddings, type Similarity } from '../similarity';
import { comparable } from './blocks';
import type { CommonOptions, SimilarityOptions } from './common-options';
import { checkDevice, checkNumber, checkTemperature, widened, type Reduction } from './parts';

/** Which labels are an anchor's positives, where each anchor and each label is of one class. */
export interface Classes {
  /** int64 [N] */
  anchors: Tensor;
  /** int64 [M] */
  labels: Tensor;
}

/** What {@link dexml} takes beside the embeddings and targets. */
export interface DexmlOptions extends SimilarityOptions {
  /** τ: a number, or a tensor of one element. Default 0.05, as in the authors' code. */
  temperature?: number | Tensor;
  /** Whether an anchor's loss is the `'mean'` over its positives (default, as in the authors' code) or their `'sum'`. */
  positives?: 'mean' | 'sum';
}

/**
 * The decoupled softmax of DEXML (Gupta et al. 2024, "Dual-Encoders for Extreme Multi-Label Classification"): each positive has a softmax of
 * its own, with all negatives and without the other positives, so that no positive is pushed away for another's sake.
 *
 *     lossᵢ = −1/|P(i)| Σₚ log( exp(sᵢₚ) / (exp(sᵢₚ) + Σₙ exp(sᵢₙ)) ),   s = similarity / τ
 *
 * With classes as targets it goes tile by tile where that is better, in two passes. A matrix of targets is as large as the scores, which are
 * then held as a whole; the similarity is the cosine or the dot product. Anchors without positives are left out of the mean. This is the
 * form of the authors' code, apart from its choice of one positive an anchor at random, which is left to the caller's targets.
 *
 * For retrieval and classification where an anchor has many right answers.
 *
 * @param anchors [N, D], of any floating-point dtype
 * @param labels [M, D], the embeddings of the labels
 * @param targets bool [N, M]: which labels are right for which anchor; or classes
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit, or a matrix of targets shall go tile by tile
 */
export function dexml(anchors: Tensor, labels: Tensor, targets: Tensor | Classes, options: DexmlOptions = {}): Tensor {
  const { temperature = 0.05, positives = 'mean', similarity = 'cosine', reduction = 'mean', execution } = options;
  checkEmbeddings(anchors, 'dexml: anchors');
  checkEmbeddings(labels, 'dexml: labels', anchors.sizeOf(1));
  checkTemperature(temperature, 'dexml');
  if ('anchors' in targets) {
    return contrast({
      anchors,
      candidates: { embeddings: labels, labels: targets.labels },
      labels: targets.anchors,
      link: positives === 'mean' ? meanLink : sumLink,
      similarity,
      temperature,
      reduction,
      ...(execution && { execution }),
    });
  }
  if (execution === 'tiled' || similarity === 'euclidean') {
    throw new InvalidArgumentError(
      `dexml: a matrix of targets goes with the dense form and the cosine or dot product; give classes for '${execution === 'tiled' ? execution : similarity}'`,
    );
  }
  checkTargets(targets, anchors, labels, 'dexml');
  return withoutAutocast(anchors, () => {
    const scores = scoresOf(anchors, labels, similarity, temperature);
    const count = targets.sum([1]);
    // Without negatives nothing is to be kept apart, and LibTorch's logsumexp over nothing has no gradient.
    const right = targets.logicalAnd(targets.all(1, true).logicalNot());
    const negatives = scores.maskedFill(right, -Infinity).logsumexp([1], true);
    const losses = torch.where(right, softplus(negatives.sub(scores)), scores.newZeros([])).sum([1]);
    const scaled = positives === 'mean' ? losses.div(count.clampMin(1)) : losses;
    return reduceThoseWith(scaled, count, reduction);
  });
}

const linkOf = (positives: 'mean' | 'sum') =>
  defineLink({
    name: 'softmax of each positive',
    needs: { negatives: { kind: 'logSumExp', over: 'negatives' }, count: { kind: 'count', over: 'positives' } },
    loss: ({ negatives, count }, { more }) =>
      whereAny(negatives, (offset) => {
        const { sum } = more({ sum: { kind: 'softplus', over: 'positives', power: -1, offset } });
        return positives === 'mean' ? sum.div(count) : sum;
      }),
  });

const meanLink = linkOf('mean');
const sumLink = linkOf('sum');

/** What {@link softTopK} takes beside the embeddings and targets. */
export interface SoftTopKOptions extends Pick<CommonOptions, 'reduction'> {
  /**
   * k: how many labels may be chosen for an anchor, from above 0 to below M. Default 5, as in the authors' code, or `'positives'` for as
   * many as are right.
   */
  k?: number | 'positives';
  /** τ: a number, or a tensor of one element. Default 0.05, as in the authors' code. */
  temperature?: number | Tensor;
  /** α, the sharpness of the choice. Default 2, as in the authors' code. */
  sharpness?: number;
  /** The cosine (default) or the dot product. */
  similarity?: Similarity;
}

/**
 * The soft top-k objective of DEXML (Gupta et al. 2024, "Dual-Encoders for Extreme Multi-Label Classification"): each label is chosen to a
 * degree between 0 and 1, k labels in all, and the right ones should be among them.
 *
 *     zᵢⱼ = σ(α (sᵢⱼ + tᵢ)),  tᵢ such that Σⱼ zᵢⱼ = k;   lossᵢ = −1/|P(i)| Σₚ log zᵢₚ,   s = similarity / τ
 *
 * The threshold tᵢ is found by bisection; its gradient is that of the equation that it solves. There is the dense form only, as the search
 * goes through the scores again and again. Anchors without positives are left out of the mean; of those with more than k positives the
 * authors' code takes k at random, which is left to the caller's targets.
 *
 * For multi-label retrieval that is judged by its first k results.
 *
 * @param anchors [N, D], of any floating-point dtype
 * @param labels [M, D], the embeddings of the labels
 * @param targets bool [N, M]: which labels are right for which anchor
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function softTopK(anchors: Tensor, labels: Tensor, targets: Tensor, options: SoftTopKOptions = {}): Tensor {
  const { k = 5, temperature = 0.05, sharpness = 2, similarity = 'cosine', reduction = 'mean' } = options;
  checkEmbeddings(anchors, 'softTopK: anchors');
  checkEmbeddings(labels, 'softTopK: labels', anchors.sizeOf(1));
  checkTemperature(temperature, 'softTopK');
  checkNumber(sharpness, 'softTopK: sharpness', { above: true });
  checkTargets(targets, anchors, labels, 'softTopK');
  const count = targets.sum([1]);
  if (k !== 'positives' && !(k > 0 && k < labels.sizeOf(0))) {
    throw new InvalidArgumentError(
      `softTopK: k must be above 0 and below the number of labels, ${labels.sizeOf(0)}, or 'positives', found ${String(k)}`,
    );
  }
  return withoutAutocast(anchors, () => {
    const scores = scoresOf(anchors, labels, similarity, temperature).mul(sharpness);
    // Where all labels are right, all may be chosen; any k below their number will do, as nothing is to be learnt.
    const chosen =
      k === 'positives'
        ? count.clamp(0.5, labels.sizeOf(0) - 0.5).to({ dtype: scores.dtype })
        : scores.newFull([scores.sizeOf(0)], k);
    const logits = scores.add(threshold(scores, chosen.unsqueeze(1)));
    const all = k === 'positives' ? targets.all(1, true) : null;
    const right = all === null ? targets : targets.logicalAnd(all.logicalNot());
    const losses = torch.where(right, softplus(logits.neg()), logits.newZeros([])).sum([1]);
    return reduceThoseWith(losses.div(count.clampMin(1)), count, reduction);
  });
}

/** t with Σⱼ σ(scoresᵢⱼ + tᵢ) = kᵢ, and its gradient. */
function threshold(scores: Tensor, k: Tensor): Tensor {
  const t = noGrad(() => {
    // σ is 0 or 1 to within rounding so far from 0, for as many labels as memory holds.
    let low = scores.amax([1], true).neg().sub(50);
    let high = scores.amin([1], true).neg().add(50);
    for (let i = 0; i < (scores.dtype === 'float64' ? 64 : 36); i++) {
      const middle = low.add(high).div(2);
      const isLow = scores.add(middle).sigmoid().sum([1], true).lt(k);
      low = torch.where(isLow, middle, low);
      high = torch.where(isLow, high, middle);
    }
    return low.add(high).div(2);
  });
  // The sum stays k: dt = −Σ σ′ ds / Σ σ′. The value is not changed.
  const sum = scores.add(t).sigmoid();
  const slope = sum.detach().mul(sum.detach().neg().add(1)).sum([1], true);
  const total = sum.sum([1], true);
  return t.sub(total.sub(total.detach()).div(slope.clampMin(1e-30)));
}

function scoresOf(anchors: Tensor, labels: Tensor, similarity: Similarity, temperature: number | Tensor): Tensor {
  const [a, b] = widened(anchors, labels).map((x) => comparable(x, similarity)) as [Tensor, Tensor];
  return a.matmul(b.t()).div(temperature);
}

function reduceThoseWith(losses: Tensor, count: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses;
  const sum = losses.sum();
  return reduction === 'sum' ? sum : sum.div(count.gt(0).sum().clampMin(1));
}

function checkTargets(targets: Tensor, anchors: Tensor, labels: Tensor, what: string): void {
  checkDevice(labels, anchors, `${what}: labels`);
  checkDevice(targets, anchors, `${what}: targets`);
  const expected = [anchors.sizeOf(0), labels.sizeOf(0)];
  if (targets.dtype !== 'bool' || targets.shape.join() !== expected.join()) {
    throw new InvalidArgumentError(
      `${what}: targets must be bool [${expected.join(', ')}], found ${targets.dtype} [${targets.shape.join(', ')}]`,
    );
  }
}
