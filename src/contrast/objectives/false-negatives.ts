/** False negative cancellation: negatives that look like the anchor's own sample are left out, or made positives. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkDevice, checkNumber, checkTemperature, partitionLink, reduced, widened } from './parts';
import { amongViews } from './views';

/** How false negatives are found. */
export interface FalseNegativeSearch {
  /**
   * Views of the same samples that the candidates are compared with, [N, D] each; they have no loss and get no gradient. Default: the views
   * themselves. In the authors' code extra views have losses too: give them as views then.
   */
  support?: readonly Tensor[];
  /** t: a candidate is a false negative only above this cosine. Default 0.7; −1 to go by `topK` alone. */
  threshold?: number;
  /** k: only the most alike may be false negatives of a sample; of several alike at the k-th place none. Default 10. */
  topK?: number;
  /** Whether a candidate counts by its nearest support view, `'max'` (default, as in the authors' code), or by the mean of their cosines. */
  aggregation?: 'max' | 'mean';
}

/** What {@link falseNegativeElimination} and {@link falseNegativeAttraction} take beside the views. */
export interface FalseNegativeOptions extends CommonOptions, FalseNegativeSearch {
  /** τ: a number, or a tensor of one element. Default 0.1, as in the authors' runs. */
  temperature?: number | Tensor;
}

/** Scores that are held at once. */
const CHUNK = 1 << 22;

/**
 * False negative elimination (Huynh et al. 2022, "Boosting Contrastive Self-Supervised Learning with False Negative Cancellation"): NT-Xent
 * without the negatives that look like the anchor's sample.
 *
 *     lossᵢ = −1/|P(i)| Σₚ log( exp(sᵢₚ) / Σ_{j ≠ i, j ∉ F(i)} exp(sᵢⱼ) ),   s = cosine / τ
 *     F(i) = those of other samples whose cosine with i's support views is above t and among the k highest
 *
 * P(i) are the other views of i's sample. F is one set for all views of a sample, and has no gradient. Finding it is one more pass through the
 * scores for each support view, some rows at a time. With one support view or `aggregation: 'mean'` the loss has a tiled form; with the maximum
 * over several it is computed densely, whatever `execution` says.
 *
 * For self-supervised training on data with few classes, once embeddings tell something of them.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view. One sample alone with two views has the loss 0
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or options do not fit
 */
export function falseNegativeElimination(views: readonly Tensor[], options: FalseNegativeOptions = {}): Tensor {
  const what = 'falseNegativeElimination';
  const { temperature = 0.1, reduction, execution, ...search } = options;
  const among = amongViews(views, what);
  check(views, options, what);
  return withoutAutocast(among.anchors, () => {
    const { guides, candidates, limits } = noGrad(() => detect(views, search));
    const [only] = guides;
    if (guides.length === 1) {
      return contrast({
        ...among,
        candidates: { ...among.candidates, guides: candidates },
        guides: only!.repeat([views.length, 1]),
        guideLimits: limits.repeat([views.length]),
        temperature,
        reduction,
        execution,
      });
    }
    const left = noGrad(() => {
      const likest = scoresOf(guides, candidates);
      return likest.le(limits.unsqueeze(1)).repeat([views.length, 1]);
    });
    const [wide] = widened(among.anchors);
    const unit = functional.normalize(wide);
    const scores = unit.matmul(unit.t()).div(temperature);
    const same = among.labels.unsqueeze(1).eq(among.labels.unsqueeze(0));
    const self = torch.eye(unit.sizeOf(0), { dtype: 'bool', device: unit.device });
    const own = same.logicalAnd(self.logicalNot());
    const all = scores.maskedFill(left.logicalAnd(same.logicalNot()).logicalOr(own).logicalNot(), -Infinity);
    const positives = torch
      .where(own, scores, scores.newZeros([]))
      .sum([1])
      .div(views.length - 1);
    return reduced(all.logsumexp([1]).sub(positives), reduction);
  });
}

/**
 * False negative attraction (Huynh et al. 2022, "Boosting Contrastive Self-Supervised Learning with False Negative Cancellation"): NT-Xent in
 * which those negatives that look like the anchor's sample are positives. The authors' better choice where the search is right often enough.
 *
 *     lossᵢ = −1/(|P(i)| + |F(i)|) Σ_{p ∈ P(i) ∪ F(i)} log( exp(sᵢₚ) / Σ_{j ≠ i} exp(sᵢⱼ) ),   s = cosine / τ
 *
 * with P and F as in {@link falseNegativeElimination}. The authors' code gives twice the mean. The sum over all j has a tiled form; positives
 * that were found are gathered, k for each sample.
 *
 * For self-supervised training on data with few classes, once embeddings tell something of them.
 *
 * @param views two or more, [N, D] each, of any floating-point dtype; row i of all of them is sample i
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view. One sample alone with two views has the loss 0
 * @throws InvalidArgumentError if there are fewer than two views, or shapes, dtypes, devices or options do not fit
 */
export function falseNegativeAttraction(views: readonly Tensor[], options: FalseNegativeOptions = {}): Tensor {
  const what = 'falseNegativeAttraction';
  const { temperature = 0.1, reduction, execution, ...search } = options;
  const among = amongViews(views, what);
  check(views, options, what);
  return withoutAutocast(among.anchors, () => {
    const { ids } = among;
    const found = noGrad(() => detect(views, search));
    const partition = contrast({
      anchors: among.anchors,
      candidates: { embeddings: among.anchors, ids },
      ids,
      temperature,
      link: partitionLink,
      reduction: 'none',
      execution,
    });
    const unit = functional.normalize(widened(among.anchors)[0]);
    const several = views.length;
    const count = views[0]!.sizeOf(0);
    // The positives of a sample as one sum of embeddings, from which each view takes itself off.
    const bySample = unit.reshape([several, count, unit.sizeOf(1)]);
    let sum = bySample.sum([0]);
    let number = unit.newFull([count], several - 1);
    if (found.indices !== null && found.isFalse !== null) {
      const isFalse = found.isFalse.to({ dtype: unit.dtype });
      const gathered = unit.indexSelect(0, found.indices.flatten()).reshape([...found.indices.shape, unit.sizeOf(1)]);
      sum = sum.add(gathered.mul(isFalse.unsqueeze(2)).sum([1]));
      number = number.add(isFalse.sum([1]));
    }
    const others = sum.unsqueeze(0).sub(bySample).reshape(unit.shape);
    const positives = unit
      .mul(others)
      .sum([1])
      .div(temperature)
      .div(number.repeat([several]));
    return reduced(partition.sub(positives), reduction);
  });
}

interface Detected {
  /** What candidates are compared with, of length one or the mean of such: [N, D] each. */
  readonly guides: readonly Tensor[];
  /** [V·N, D], of length one. */
  readonly candidates: Tensor;
  /** [N]: above this score a candidate of another sample is a false negative. */
  readonly limits: Tensor;
  /** [N, k]: the most alike of other samples, and which of them are false negatives; null if there are no others. */
  readonly indices: Tensor | null;
  readonly isFalse: Tensor | null;
}

function detect(views: readonly Tensor[], search: FalseNegativeSearch): Detected {
  const { support = views, threshold = 0.7, topK = 10, aggregation = 'max' } = search;
  const units = widened(...views, ...support).map((x) => functional.normalize(x.detach()));
  const candidates = torch.cat(units.slice(0, views.length));
  const supports = units.slice(views.length);
  const guides = aggregation === 'mean' && supports.length > 1 ? [torch.stack(supports).mean([0])] : supports;
  const count = views[0]!.sizeOf(0);
  const total = candidates.sizeOf(0);
  const others = total - views.length;
  const rows = Math.max(1, Math.floor(CHUNK / total));
  const parts: [Tensor, Tensor, Tensor][] = [];
  for (let start = 0; start < count && others > 0; start += rows) {
    const length = Math.min(rows, count - start);
    parts.push(
      scope(() => {
        const positions = torch.arange(total, { dtype: 'int64', device: candidates.device }).remainder(count);
        const mine = torch.arange(start, start + length, { dtype: 'int64', device: candidates.device });
        const scores = scoresOf(
          guides.map((guide) => guide.narrow(0, start, length)),
          candidates,
        ).maskedFill(mine.unsqueeze(1).eq(positions.unsqueeze(0)), -Infinity);
        const most = Math.min(topK + 1, others);
        const [values, indices] = scores.topk(most, 1);
        // Halfway to the next one, so that another rounding of the same scores changes nothing.
        const limits =
          topK >= others
            ? scores.newFull([length], threshold)
            : values
                .select(1, topK - 1)
                .add(values.select(1, topK))
                .div(2)
                .clampMin(threshold);
        const kept = Math.min(topK, others);
        const isFalse = values.narrow(1, 0, kept).gt(limits.unsqueeze(1));
        return [limits, indices.narrow(1, 0, kept).contiguous(), isFalse];
      }),
    );
  }
  if (parts.length === 0) {
    return { guides, candidates, limits: candidates.newFull([count], threshold), indices: null, isFalse: null };
  }
  const [limits, indices, isFalse] = ([0, 1, 2] as const).map((i) => torch.cat(parts.map((part) => part[i])));
  return { guides, candidates, limits: limits!, indices: indices!, isFalse: isFalse! };
}

/** The greatest score with any of the guides. */
function scoresOf(guides: readonly Tensor[], candidates: Tensor): Tensor {
  return guides.map((guide) => guide.matmul(candidates.t())).reduce((a, b) => a.maximum(b));
}

function check(views: readonly Tensor[], options: FalseNegativeOptions, what: string): void {
  const { support, temperature = 0.1, threshold = 0.7, topK = 10, aggregation = 'max' } = options;
  const [first] = views as [Tensor];
  checkTemperature(temperature, what);
  checkNumber(threshold, `${what}: threshold`, { low: -1, high: 1 });
  if (!Number.isInteger(topK) || topK < 1) {
    throw new InvalidArgumentError(`${what}: topK must be a whole number from 1, found ${String(topK)}`);
  }
  if (aggregation !== 'max' && aggregation !== 'mean') {
    throw new InvalidArgumentError(`${what}: aggregation must be 'max' or 'mean', found '${String(aggregation)}'`);
  }
  if (support === undefined) return;
  if (support.length === 0) throw new InvalidArgumentError(`${what}: support must hold a view or more`);
  support.forEach((view, i) => {
    checkEmbeddings(view, `${what}: support[${i}]`, first.sizeOf(1), first.sizeOf(0));
    checkDevice(view, first, `${what}: support[${i}]`);
  });
}
