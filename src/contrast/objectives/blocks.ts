/** Softmaxes over negatives that lie in several matrices of scores, where `contrast` has one. */
import { functional } from '../../nn';
import { torch, type Tensor } from '../../torch';
import { chooseExecution } from '../execution';
import { addLogarithms, maskedLogSumExp } from '../logarithms';
import type { Similarity } from '../similarity';
import { pairStatistics, type Execution, type Pairs, type Statistic } from '../statistics';

/** What is known of the negatives of each sample, [N] each. */
export interface NegativeSums {
  /** log Σ exp(s), −∞ without negatives. */
  readonly log: Tensor;
  readonly sum: Tensor;
  readonly count: Tensor;
}

/** Embeddings of which dot products are the similarities. */
export function comparable(x: Tensor, similarity: Similarity): Tensor {
  return similarity === 'cosine' ? functional.normalize(x) : x;
}

/**
 * The sums over the negatives of each row of a block, or of each row and each column from one pass. All pairs are negatives but those
 * that ids or guides leave out.
 *
 * @param mean whether `sum` and `count` are needed; else both are 0
 */
export function negativeSums<Axis extends 'rows' | 'columns'>(
  block: Pairs,
  axes: readonly Axis[],
  options: { execution: Execution | 'auto'; mean: boolean },
): Record<Axis, NegativeSums> {
  const { execution } = chooseExecution(block.rows, block.columns.sizeOf(0), options.execution);
  const kinds = options.mean ? (['logSumExp', 'sum', 'count'] as const) : (['logSumExp'] as const);
  const wanted = axes.flatMap((axis) => kinds.map((kind): Statistic => ({ kind, over: 'negatives', axis })));
  const values = pairStatistics(block, wanted, execution);
  const results = axes.map((axis, i) => {
    const [log, sum, count] = values.slice(i * kinds.length, (i + 1) * kinds.length) as [Tensor, Tensor?, Tensor?];
    return [axis, { log, sum: sum ?? torch.zerosLike(log.detach()), count: count ?? torch.zerosLike(log.detach()) }];
  });
  return Object.fromEntries(results) as Record<Axis, NegativeSums>;
}

/** The sums over negatives whose scores are here, [N, K]: those that are `allowed`, by default all. */
export function ownSums(scores: Tensor, allowed?: Tensor): NegativeSums {
  const mask = allowed ?? torch.onesLike(scores.detach()).to('bool');
  return {
    log: maskedLogSumExp(scores, mask, 1),
    sum: torch.where(mask, scores, scores.newZeros([])).sum([1]),
    count: mask.to({ dtype: scores.dtype }).sum([1]),
  };
}

/** The sums over several sets of negatives taken together. */
export function together(sets: readonly NegativeSums[]): NegativeSums {
  const total = (values: Tensor[]): Tensor => values.reduce((a, b) => a.add(b));
  const log = addLogarithms(sets.map((set) => set.log));
  return { log, sum: total(sets.map(({ sum }) => sum)), count: total(sets.map(({ count }) => count)) };
}
