import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';

/** What {@link shuffleDivergence} takes. */
export interface ShuffleDivergenceOptions {
  /** [N, D]: what batch norm sees. */
  features: Tensor;
  /** N labels of two classes. */
  labels: ArrayLike<number>;
  /**
   * The batches that training uses, as positions: those of one epoch for a single shuffle, of several epochs in a row for random
   * reshuffling.
   */
  batches: readonly ArrayLike<number>[];
  /** Batch norm's eps. Default 1e-5. */
  eps?: number;
  /** How long to look for an answer. Default 10,000. */
  iterations?: number;
}

/** What {@link shuffleDivergence} finds. */
export interface ShuffleDivergence {
  /**
   * `'diverges'`: training separates the batch-normalised data in a direction that misclassifies rows normalised over the whole
   * set, so their logistic risk grows without bound. `'agrees'`: it separates them in a direction that classifies these rightly, too.
   * `'bounded'`: no direction separates the batch-normalised data; `'undecided'`: not settled within the iterations.
   */
  verdict: 'diverges' | 'agrees' | 'bounded' | 'undecided';
  /** The largest margin of the batch-normalised data, 0 if no direction separates them; a lower bound if undecided. */
  margin: number;
  /** The share of rows, normalised over the whole set, that the direction puts on the wrong side. */
  misclassified: number;
  /** The direction of largest margin, of length 1, [D]; zeros if there is none. */
  direction: Float64Array;
}

/**
 * Tells whether training a linear classifier on batch-normalised features, with these batches, drives the risk of full-batch
 * normalisation to infinity.
 *
 * A row x_i of batch B is seen in training as x̄_i = (x_i − μ_B) / √(σ²_B + eps). If some direction u has y_i⟨u, x̄_i⟩ > 0 for all,
 * gradient descent on the logistic loss grows along the u of largest margin for ever; the risk over rows that are normalised by the
 * whole set's statistics, log(1 + exp(−y_i·t⟨u, x̂_i⟩)), then grows without bound as t does as soon as one y_i⟨u, x̂_i⟩ < 0. A single
 * shuffle offers N points, which are often separable; random reshuffling ever new ones, which sooner or later are not, and then
 * training stays bounded. The direction is the point next to the origin of the convex hull of the y_i·x̄_i.
 *
 * What this is and is not: it is exact for these batches, two classes, no learnt shift and a linear map on top of batch norm (deep
 * linear networks have the same separability, but may take another direction). For deep networks, give the features in front of a
 * batch norm of interest, and take the answer as a hint. Data of which only a part is separable, which the paper also shows to
 * diverge, count as `'bounded'` here. The criterion was written from the paper's argument; its text was available only in part.
 *
 * @throws InvalidArgumentError for shapes or labels that do not fit, positions out of range, or a batch of one row
 *
 * Wu, Yun and Sra 2023, On the Training Instability of Shuffling SGD with Batch Normalization.
 */
export function shuffleDivergence(options: ShuffleDivergenceOptions): ShuffleDivergence {
  const { features, labels, batches, eps = 1e-5, iterations = 10_000 } = options;
  positiveInteger(iterations, 'shuffleDivergence: iterations');
  if (features.ndim !== 2 || features.shape[0] !== labels.length) {
    throw new InvalidArgumentError(
      `shuffleDivergence: expected features [${labels.length}, D], one row a label, found [${features.shape.join(', ')}]`,
    );
  }
  const classes = [...new Set(Array.from(labels))];
  if (classes.length !== 2) {
    throw new InvalidArgumentError(`shuffleDivergence: needs labels of two classes, found ${classes.length}`);
  }
  const rows = labels.length;
  for (const batch of batches) {
    const wrong = Array.from(batch).find((row) => !Number.isInteger(row) || row < 0 || row >= rows);
    if (wrong !== undefined) throw new InvalidArgumentError(`shuffleDivergence: no row ${wrong} among ${rows}`);
    if (batch.length < 2) {
      throw new InvalidArgumentError(
        'shuffleDivergence: batch norm needs batches of at least two rows; drop the last one',
      );
    }
  }
  if (batches.length === 0) throw new InvalidArgumentError('shuffleDivergence: there is no batch');
  const [seen, whole] = scope(() =>
    noGrad(() => {
      const x = features.to({ device: 'cpu', dtype: 'float64' });
      const signs = torch
        .tensor(
          Array.from(labels, (label) => (label === classes[0] ? 1 : -1)),
          { dtype: 'float64' },
        )
        .unsqueeze(1);
      const normalized = (part: Tensor): Tensor => torch.batchNorm(part, null, null, null, null, true, 0, eps, true);
      const parts = batches.map((batch) => {
        const positions = torch.tensor(Array.from(batch), { dtype: 'int64' });
        return normalized(x.indexSelect(0, positions)).mul(signs.indexSelect(0, positions));
      });
      return [torch.cat(parts), normalized(x).mul(signs)].map((points) =>
        Float64Array.from(points.dataSync() as Float64Array),
      );
    }),
  ) as [Float64Array, Float64Array];
  const dimension = features.sizeOf(1);
  const { point, state } = nearestToOrigin(seen, dimension, iterations);
  const length = Math.hypot(...point);
  const direction =
    state === 'origin' || length === 0 ? new Float64Array(dimension) : point.map((value) => value / length);
  const onWhole = products(whole, direction);
  const misclassified = onWhole.filter((product) => product < 0).length / rows;
  const margin = Math.max(
    0,
    products(seen, direction).reduce((least, product) => Math.min(least, product), Infinity),
  );
  const verdict =
    state === 'origin' ? 'bounded' : state === 'open' ? 'undecided' : misclassified > 0 ? 'diverges' : 'agrees';
  return { verdict, margin, misclassified, direction };
}

function products(points: Float64Array, direction: Float64Array): Float64Array {
  const found = new Float64Array(points.length / direction.length);
  for (let row = 0, at = 0; row < found.length; row++) {
    let sum = 0;
    for (const value of direction) sum += points[at++]! * value;
    found[row] = sum;
  }
  return found;
}

/**
 * The point of the convex hull that is next to the origin, by Frank and Wolfe's method with pairwise steps: weight moves from the
 * active point that lies furthest out along the current one to the point that lies furthest back. `'found'` has all points in front
 * of it up to a millionth of its own length squared, `'origin'` is next to the origin itself.
 */
function nearestToOrigin(
  points: Float64Array,
  dimension: number,
  iterations: number,
): { point: Float64Array; state: 'found' | 'origin' | 'open' } {
  const count = points.length / dimension;
  const weights = new Float64Array(count);
  weights[0] = 1;
  const point = points.slice(0, dimension);
  let scale = 0;
  for (const value of points) scale = Math.max(scale, Math.abs(value));
  for (let iteration = 0; iteration < iterations; iteration++) {
    const along = products(points, point);
    const square = point.reduce((sum, value) => sum + value * value, 0);
    // Below this, rounding of the points decides.
    if (square <= 1e-12 * scale * scale * dimension) return { point, state: 'origin' };
    let [back, front] = [0, -1];
    for (let row = 0; row < count; row++) {
      if (along[row]! < along[back]!) back = row;
      if (weights[row]! > 0 && (front < 0 || along[row]! > along[front]!)) front = row;
    }
    if (square - along[back]! <= 1e-6 * square) return { point, state: 'found' };
    let distance = 0;
    for (let d = 0; d < dimension; d++) {
      distance += (points[front * dimension + d]! - points[back * dimension + d]!) ** 2;
    }
    const most = weights[front]!;
    const gain = distance === 0 ? most : Math.min(most, (along[front]! - along[back]!) / distance);
    weights[front] = most - gain;
    weights[back] = weights[back]! + gain;
    for (let d = 0; d < dimension; d++) {
      point[d] = point[d]! + gain * (points[back * dimension + d]! - points[front * dimension + d]!);
    }
  }
  return { point, state: 'open' };
}
