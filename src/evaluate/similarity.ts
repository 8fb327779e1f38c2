/** How an encoder's features lie on the sphere: alignment, uniformity, histograms of similarities, nearest neighbours. */
import { noGrad, scope, torch, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { checkFeatures } from './checks';
import { nearestNeighbors, unitRows } from './knn';

/** Rows a tile of similarities has. */
const tileRows = 512;

/**
 * How close the two views of an image are: the mean of `‖x̂ − ŷ‖^α` over pairs of unit vectors; 0 is best, 2^α worst (Wang and Isola,
 * 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere").
 *
 * @param first features of one view, [N, D]
 * @param second features of the other view of the same images, [N, D]
 * @param alpha the exponent; default 2
 * @throws InvalidArgumentError when the shapes differ
 */
export function alignment(first: Tensor, second: Tensor, alpha = 2): number {
  checkPairs(first, second);
  return noGrad(() =>
    scope(() => {
      const difference = unitRows(first).sub_(unitRows(second));
      return torch.linalgVectorNorm(difference, 2, [1]).pow_(alpha).mean().itemSync();
    }),
  );
}

/**
 * How evenly features are spread over the sphere: the logarithm of the mean of `exp(−t‖x̂ᵢ − x̂ⱼ‖²)` over all pairs i ≠ j; lower is
 * more even, 0 is a single point (Wang and Isola, 2020).
 *
 * @param features [N, D], N ≥ 2
 * @param t the width of the kernel; default 2
 * @throws InvalidArgumentError for fewer than two rows
 */
export function uniformity(features: Tensor, t = 2): number {
  checkFeatures('', features);
  const count = features.shape[0];
  if (count < 2) throw new InvalidArgumentError('Uniformity needs at least two rows.');
  let sum = 0;
  forEachTile(features, features, (similarity, offset) => {
    // ‖x̂ − ŷ‖² = 2 − 2s; the row itself counts as exp(−∞) = 0.
    similarity.diagonal(offset).fill_(-Infinity);
    sum += similarity
      .sub_(1)
      .mul_(2 * t)
      .exp_()
      .sum({ dtype: 'float64' })
      .itemSync();
  });
  return Math.log(sum / (count * (count - 1)));
}

/** How cosine similarities of two kinds of pairs are spread. */
export interface SimilarityHistograms {
  /** `bins + 1` edges from −1 to 1. */
  edges: number[];
  /** How many pairs of views of one image fall in each bin. */
  positives: number[];
  /** How many pairs of views of different images fall in each bin. */
  negatives: number[];
  meanPositive: number;
  meanNegative: number;
}

/**
 * Histograms of the cosine similarities of positive pairs (`first[i]`, `second[i]`) and negative pairs (`first[i]`, `second[j]`, i ≠ j).
 *
 * @param first features of one view, [N, D], N ≥ 2
 * @param second features of the other view of the same images, [N, D]
 * @param bins default 50
 * @throws InvalidArgumentError for shapes that differ, fewer than two rows, or no bins
 */
export function similarityHistograms(first: Tensor, second: Tensor, bins = 50): SimilarityHistograms {
  checkPairs(first, second);
  const count = first.shape[0];
  if (count < 2) throw new InvalidArgumentError('Histograms of negative pairs need at least two rows.');
  if (!Number.isSafeInteger(bins) || bins < 1)
    throw new InvalidArgumentError(`bins must be a positive integer, not ${bins}.`);
  const positives = new Array<number>(bins).fill(0);
  const all = new Array<number>(bins).fill(0);
  let positiveSum = 0;
  let sum = 0;
  forEachTile(first, second, (similarity, offset) => {
    // Rounding can leave a similarity of equal vectors just above 1, where no bin is.
    similarity.clamp_(-1, 1);
    const diagonal = similarity.diagonal(offset);
    addCounts(positives, diagonal, bins);
    addCounts(all, similarity, bins);
    positiveSum += diagonal.sum({ dtype: 'float64' }).itemSync();
    sum += similarity.sum({ dtype: 'float64' }).itemSync();
  });
  return {
    edges: Array.from({ length: bins + 1 }, (_, i) => (2 * i) / bins - 1),
    positives,
    negatives: all.map((number, bin) => number - positives[bin]),
    meanPositive: positiveSum / count,
    meanNegative: (sum - positiveSum) / (count * (count - 1)),
  };
}

/** An image and what an encoder takes to be like it. */
export interface Retrieval {
  /** The query's row and label. */
  index: number;
  label: number;
  /** Nearest first. */
  neighbors: { index: number; label: number; similarity: number }[];
}

/** What {@link retrieve} takes. */
export interface RetrieveOptions {
  /** Features [N, D] and labels of the set that the queries come from. */
  queryFeatures: Tensor;
  queryLabels: Tensor;
  /** Rows of the queries. */
  rows: readonly number[];
  /** Features [M, D] and labels of the set that is searched. */
  candidateFeatures: Tensor;
  candidateLabels: Tensor;
  /** How many neighbours of each query. Default: 8. */
  k?: number;
}

/**
 * The nearest neighbours of some queries, with their labels, as plain numbers for a grid of images.
 *
 * @throws InvalidArgumentError for a row that is not there, or k out of range
 */
export function retrieve(options: RetrieveOptions): Retrieval[] {
  const { queryFeatures, queryLabels, rows, candidateFeatures, candidateLabels, k = 8 } = options;
  const wrong = rows.find((row) => !Number.isInteger(row) || row < 0 || row >= queryFeatures.shape[0]);
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`There are ${queryFeatures.shape[0]} query features; there is no row ${wrong}.`);
  }
  if (rows.length === 0) return [];
  return noGrad(() =>
    scope(() => {
      const chosen = torch.tensor(BigInt64Array.from(rows, BigInt), { device: queryFeatures.device });
      const queries = queryFeatures.indexSelect(0, chosen);
      const { similarities, indices } = nearestNeighbors({ queries, candidates: candidateFeatures, k });
      const labels = numbers(queryLabels.indexSelect(0, chosen));
      const neighborLabels = numbers(candidateLabels.indexSelect(0, indices.flatten()));
      const neighborIndices = numbers(indices);
      const neighborSimilarities = numbers(similarities);
      return rows.map((index, query) => ({
        index,
        label: labels[query],
        neighbors: Array.from({ length: k }, (_, rank) => ({
          index: neighborIndices[query * k + rank],
          label: neighborLabels[query * k + rank],
          similarity: neighborSimilarities[query * k + rank],
        })),
      }));
    }),
  );
}

/** Calls `take` with the similarities of some rows of `first` to all of `second`, and which diagonal of them is i = j. */
function forEachTile(first: Tensor, second: Tensor, take: (similarity: Tensor, offset: number) => void): void {
  noGrad(() =>
    scope(() => {
      const columns = unitRows(second).t();
      for (let row = 0; row < first.shape[0]; row += tileRows) {
        scope(() => {
          const rows = unitRows(first.narrow(0, row, Math.min(tileRows, first.shape[0] - row)));
          take(rows.matmul(columns), row);
        });
      }
    }),
  );
}

function addCounts(counts: number[], similarities: Tensor, bins: number): void {
  numbers(similarities.histc(bins, -1, 1)).forEach((count, bin) => (counts[bin] += count));
}

function numbers(tensor: Tensor): number[] {
  return Array.from(tensor.dataSync() as ArrayLike<number | bigint>, Number);
}

function checkPairs(first: Tensor, second: Tensor): void {
  checkFeatures('first', first);
  checkFeatures('second', second, first);
  if (first.shape[0] !== second.shape[0]) {
    throw new InvalidArgumentError(
      `Pairs need as many first (${first.shape[0]}) as second (${second.shape[0]}) features.`,
    );
  }
}
