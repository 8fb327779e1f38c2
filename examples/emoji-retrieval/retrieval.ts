/** How well the right one is found. */
import { functional } from 'kontrast/nn';
import { noGrad, scope, type Tensor } from 'kontrast/torch';

/** The usual numbers of retrieval, from 0 to 1. */
export interface Retrieval {
  /** The share of queries whose right answer comes first. */
  recallAt1: number;
  /** The share of queries whose right answer is among the first five. */
  recallAt5: number;
  /** The mean of 1 / rank of the right answer. */
  meanReciprocalRank: number;
  /** The share of queries whose first answer is at least of the right family. */
  familyAt1: number;
}

/**
 * Row i of the gallery is the right answer to query i; by cosine. A tie counts as if the right one came last.
 *
 * @param families the family of each row
 */
export function retrieval(queries: Tensor, gallery: Tensor, families: readonly string[]): Retrieval {
  return noGrad(() =>
    scope(() => {
      const scores = functional.normalize(queries).matmul(functional.normalize(gallery).t());
      const ranks = scores.ge(scores.diagonal().unsqueeze(1)).sum([1]).to({ dtype: 'float64' });
      const upTo = (rank: number) => ranks.le(rank).to({ dtype: 'float64' }).mean().itemSync();
      const first = Array.from(scores.argmax(1).dataSync() as BigInt64Array, Number);
      return {
        recallAt1: upTo(1),
        recallAt5: upTo(5),
        meanReciprocalRank: ranks.reciprocal().mean().itemSync(),
        familyAt1: first.filter((row, query) => families[row] === families[query]).length / families.length,
      };
    }),
  );
}

/** Mean and standard deviation (of a sample) of each number. */
export function summary(runs: readonly Retrieval[]): { mean: Retrieval; deviation: Retrieval } {
  const over = (count: (values: number[]) => number): Retrieval => ({
    recallAt1: count(runs.map((run) => run.recallAt1)),
    recallAt5: count(runs.map((run) => run.recallAt5)),
    meanReciprocalRank: count(runs.map((run) => run.meanReciprocalRank)),
    familyAt1: count(runs.map((run) => run.familyAt1)),
  });
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    mean: over(mean),
    deviation: over((values) => {
      const middle = mean(values);
      const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
      return values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
    }),
  };
}
