import { dispose, noGrad, scope, torch, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { checkFeatures, checkLabelled } from './checks';

/** How nearest neighbours are searched, in tiles. */
export interface NearestNeighborsOptions {
  /** Whose neighbours are wanted: floating point [N, D]. */
  queries: Tensor;
  /** Among which they are searched: [M, D], of the same dtype and device. */
  candidates: Tensor;
  /** How many neighbours of each query, from 1 to M. Default: 20. */
  k?: number;
  /** Queries and candidates are the same rows, and no row is its own neighbour (k is then at most M − 1). Default: false. */
  excludeSelf?: boolean;
  /** Queries a tile. Default: 256. */
  queryTile?: number;
  /** Candidates a tile. Default: 65536. */
  candidateTile?: number;
}

/** The k nearest candidates of each query, nearest first. */
export interface NearestNeighbors {
  /** Cosine similarities [N, k]. */
  similarities: Tensor;
  /** Rows of the candidates, int64 [N, k]. */
  indices: Tensor;
}

/**
 * The k candidates of the highest cosine similarity `q·c / (‖q‖‖c‖)` for each query, exactly.
 *
 * A tile of similarities at a time: memory is `queryTile · candidateTile`, never N · M. A row of zeros has similarity 0 to all.
 *
 * @throws InvalidArgumentError for shapes, dtypes or devices that do not fit, or k or a tile out of range
 */
export function nearestNeighbors(options: NearestNeighborsOptions): NearestNeighbors {
  const { queries, candidates, k = 20, excludeSelf = false, queryTile = 256, candidateTile = 65536 } = options;
  checkFeatures('queries', queries);
  checkFeatures('candidates', candidates, queries);
  const [count] = queries.shape;
  const [available] = candidates.shape;
  if (excludeSelf && count !== available) {
    throw new InvalidArgumentError(
      `To exclude a row itself, queries (${count}) and candidates (${available}) must be the same rows.`,
    );
  }
  const most = excludeSelf ? available - 1 : available;
  if (!Number.isSafeInteger(k) || k < 1 || k > most) {
    throw new InvalidArgumentError(`k must be an integer from 1 to ${most} for ${available} candidates, not ${k}.`);
  }
  for (const [name, tile] of Object.entries({ queryTile, candidateTile })) {
    if (!Number.isSafeInteger(tile) || tile < 1)
      throw new InvalidArgumentError(`${name} must be a positive integer, not ${tile}.`);
  }
  return noGrad(() =>
    scope(() => {
      const transposed = unitRows(candidates).t();
      const similarities: Tensor[] = [];
      const indices: Tensor[] = [];
      for (let row = 0; row < count; row += queryTile) {
        const [best, position] = scope(() => {
          const tile = unitRows(queries.narrow(0, row, Math.min(queryTile, count - row)));
          return nearestInTiles(tile, transposed, k, candidateTile, excludeSelf ? row : undefined);
        });
        similarities.push(best);
        indices.push(position);
      }
      return { similarities: torch.cat(similarities, 0), indices: torch.cat(indices, 0) };
    }),
  );
}

/** The best k of all candidates for one tile of unit queries; `firstRow` is the tile's first row when rows exclude themselves. */
function nearestInTiles(
  queries: Tensor,
  candidates: Tensor,
  k: number,
  candidateTile: number,
  firstRow: number | undefined,
): [Tensor, Tensor] {
  const available = candidates.shape[1];
  let best: [Tensor, Tensor] | undefined;
  for (let column = 0; column < available; column += candidateTile) {
    const width = Math.min(candidateTile, available - column);
    const before = best;
    best = scope((): [Tensor, Tensor] => {
      const similarity = queries.matmul(candidates.narrow(1, column, width));
      if (firstRow !== undefined) maskDiagonal(similarity, firstRow - column);
      const [values, positions] = similarity.topk(Math.min(k, width), 1);
      const indices = positions.add_(column);
      if (!before) return [values, indices];
      const all = torch.cat([before[0], values], 1);
      const [merged, order] = all.topk(Math.min(k, all.shape[1]), 1);
      return [merged, torch.cat([before[1], indices], 1).gather(1, order)];
    });
    if (before) dispose(...before);
  }
  return best!;
}

/** Makes entry [i, i + offset] of each row the lowest value, so that it is never chosen. */
function maskDiagonal(similarity: Tensor, offset: number): void {
  const [rows, columns] = similarity.shape;
  if (offset >= columns || offset <= -rows) return;
  similarity.diagonal(offset).fill_(-Infinity);
}

/** Rows of length 1, in float32 at least; a row of zeros stays as it is. */
export function unitRows(features: Tensor): Tensor {
  return scope(() => {
    const wide = features.to(features.dtype === 'float64' ? 'float64' : 'float32');
    return wide.div(torch.linalgVectorNorm(wide, 2, [1], true).clampMin_(1e-12));
  });
}

/** What {@link knnClassify} takes. */
export interface KnnOptions {
  /** Features of labelled examples: floating point [M, D]. */
  trainFeatures: Tensor;
  /** Their labels: int64 [M], from 0 to `classes` − 1. */
  trainLabels: Tensor;
  /** Features of what is classified: [N, D]. */
  testFeatures: Tensor;
  /** The right labels: int64 [N]. */
  testLabels: Tensor;
  /** The number of classes. */
  classes: number;
  /** How many neighbours vote. Default: 20. (Wu et al. use 200 on ImageNet.) */
  k?: number;
  /** τ: how fast a vote falls with the distance. Default: 0.07, as in Wu et al. */
  temperature?: number;
}

/** What a classifier got right. */
export interface Classification {
  /** The share of right predictions, from 0 to 1. */
  accuracy: number;
  /** The same for each class; NaN for a class without test images. */
  classAccuracy: number[];
  /** The predicted labels, int64 [N]. */
  predictions: Tensor;
}

/**
 * Weighted k-nearest-neighbour classification: the k training examples of the highest cosine similarity s vote for their class with weight
 * `exp(s / τ)`, and the class with the greatest sum wins (Wu et al., 2018, "Unsupervised Feature Learning via Non-Parametric
 * Instance Discrimination").
 *
 * The search is exact and works in tiles, see {@link nearestNeighbors}.
 *
 * @throws InvalidArgumentError for shapes, dtypes, devices or labels that do not fit, or settings out of range
 */
export function knnClassify(options: KnnOptions): Classification {
  const { trainFeatures, trainLabels, testFeatures, testLabels, classes, k = 20, temperature = 0.07 } = options;
  checkLabelled('train', trainFeatures, trainLabels, classes);
  checkLabelled('test', testFeatures, testLabels, classes, trainFeatures);
  if (!(temperature > 0 && temperature < Infinity)) {
    throw new InvalidArgumentError(`The temperature must be above 0, not ${temperature}.`);
  }
  return noGrad(() =>
    scope(() => {
      const { similarities, indices } = nearestNeighbors({ queries: testFeatures, candidates: trainFeatures, k });
      // One less in the exponent scales all votes alike and keeps them from overflowing.
      const votes = similarities.sub_(1).div_(temperature).exp_();
      const labels = trainLabels.indexSelect(0, indices.flatten()).view([-1, k, 1]);
      // Sums in a fixed order; a scatter would add in any order on a GPU.
      const belongs = labels.eq(torch.arange(classes, { device: labels.device }));
      const predictions = belongs.mul(votes.unsqueeze(2)).sum([1]).argmax(1);
      return classification(predictions, testLabels, classes);
    }),
  );
}

/** Counts what is right. */
export function classification(predictions: Tensor, labels: Tensor, classes: number): Classification {
  const [right, total] = scope(() => {
    const correct = labels.maskedSelect(predictions.eq(labels));
    return [correct, labels].map((chosen) => Array.from(torch.bincount(chosen, null, classes).dataSync(), Number));
  });
  return {
    accuracy: right.reduce((sum, count) => sum + count, 0) / labels.shape[0],
    classAccuracy: right.map((count, label) => count / total[label]),
    predictions,
  };
}
