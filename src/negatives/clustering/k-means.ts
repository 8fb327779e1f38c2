/** k-means: Lloyd's algorithm with k-means++. */
import { functional } from '../../nn';
import { integerFrom, numberWithin, positiveInteger } from '../../nn/checks';
import {
  InvalidArgumentError,
  keep,
  noGrad,
  scope,
  torch,
  type StateDict,
  type Stateful,
  type Tensor,
} from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { jsonNumber, jsonObject } from '../../torch/state';
import { deriveSeed } from '../../data/seed';
import { RandomSource } from '../sampling/random-source';
import { checkedPoints, clusterSums, DISTANCES_AT_ONCE, nearest, rowsAtOnce, withoutEmpty } from './points';

/** What {@link KMeans} takes. */
export interface KMeansOptions {
  /** The number K of clusters. */
  clusters: number;
  /** Lloyd's steps at most. Default 100 (scikit-learn 300, faiss 25). */
  iterations?: number;
  /**
   * Fitting ends when the centroids together move by no more than this times the mean variance of the columns, squared distances both, as in
   * scikit-learn; it always ends when no assignment changes. Default 1e-4.
   */
  tolerance?: number;
  /** How often to fit from other starts; the fit of the least inertia stays. Default 1. */
  restarts?: number;
  /** Where the centroids start: `'k-means++'` (default) or `'random'` different points. */
  initialization?: 'k-means++' | 'random';
  /**
   * How many points k-means++ tries for each centroid, of which it takes the one that lowers the inertia most. Default 2 + ⌊ln K⌋ (greedy, as
   * in scikit-learn); 1 is plain k-means++.
   */
  trials?: number;
  /** Whether points and centroids have length one (cosine similarity). Default false. */
  spherical?: boolean;
  /** Default 0. */
  seed?: number;
  /** How many distances are held at once. Default 4,194,304. */
  distancesAtOnce?: number;
}

/** What a fit gives. */
export interface KMeansFit {
  /** [K, D], float64 for float64 points, else float32. */
  centroids: Tensor;
  /** int64 [N]: the nearest centroid of each point. */
  assignments: Tensor;
  /** The sum of the squared distances of the points to their centroids. */
  inertia: number;
  /** Lloyd's steps. */
  iterations: number;
  /** Whether fitting ended by itself, not by the number of iterations. */
  converged: boolean;
}

/**
 * k-means clustering (Lloyd 1982, "Least squares quantization in PCM"), started by k-means++ (Arthur and Vassilvitskii 2007, "k-means++: The
 * Advantages of Careful Seeding"):
 *
 *     min over centroids c of Σᵢ minₖ |xᵢ − cₖ|²
 *
 * by turns of two steps: each point goes to its nearest centroid, each centroid to the mean of its points. k-means++ takes each first
 * centroid from the points with a probability in proportion to the squared distance from those already taken. A cluster that has lost all
 * its points starts again at the point furthest from its own centroid; where there are fewer different points than clusters, some stay
 * empty. Means are summed in float64.
 *
 * No matrix of all distances ever exists: work goes by blocks of rows. Seeded and deterministic: the same points on the same device give
 * the same clusters, bit for bit. Half precision is widened to float32. Costs N·K·D a step.
 *
 * For pseudo-labels, topic batches and any grouping of embeddings.
 */
export class KMeans implements Stateful {
  readonly clusters: number;
  readonly iterations: number;
  readonly tolerance: number;
  readonly restarts: number;
  readonly initialization: 'k-means++' | 'random';
  readonly trials: number;
  readonly spherical: boolean;
  readonly seed: number;
  readonly distancesAtOnce: number;
  #centroids: Tensor | undefined;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: KMeansOptions) {
    this.clusters = positiveInteger(options.clusters, 'KMeans: clusters');
    this.iterations = integerFrom(0, options.iterations ?? 100, 'KMeans: iterations');
    this.tolerance = numberWithin(0, Infinity, options.tolerance ?? 1e-4, 'KMeans: tolerance');
    this.restarts = positiveInteger(options.restarts ?? 1, 'KMeans: restarts');
    this.initialization = options.initialization ?? 'k-means++';
    if (!['k-means++', 'random'].includes(this.initialization)) {
      throw new InvalidArgumentError(
        `KMeans: initialization must be 'k-means++' or 'random', found '${this.initialization}'`,
      );
    }
    this.trials = positiveInteger(options.trials ?? 2 + Math.floor(Math.log(this.clusters)), 'KMeans: trials');
    this.spherical = options.spherical ?? false;
    this.seed = options.seed ?? 0;
    deriveSeed(this.seed);
    this.distancesAtOnce = positiveInteger(options.distancesAtOnce ?? DISTANCES_AT_ONCE, 'KMeans: distancesAtOnce');
  }

  /** The centroids of the last fit [K, D]: the tensor itself. @throws InvalidArgumentError before the first fit */
  get centroids(): Tensor {
    if (!this.#centroids) throw new InvalidArgumentError('KMeans: there are no centroids before fit()');
    return this.#centroids;
  }

  /**
   * Finds the clusters of these points and keeps their centroids for {@link KMeans.predict}.
   *
   * @param points floating-point [N, D] with N at least the number of clusters; no gradient flows
   * @throws InvalidArgumentError for other shapes or dtypes, NaN, infinity, or fewer points than clusters
   */
  fit(points: Tensor): KMeansFit {
    return withoutAutocast(points, () =>
      noGrad(() => {
        const best = scope(() => {
          const checked = checkedPoints(points, 'KMeans: points', this.spherical);
          if (checked.sizeOf(0) < this.clusters) {
            throw new InvalidArgumentError(
              `KMeans: ${this.clusters} clusters need at least as many points, found ${checked.sizeOf(0)}`,
            );
          }
          let fit = this.#fitOnce(checked, new RandomSource(this.seed, 0));
          for (let restart = 1; restart < this.restarts; restart++) {
            const other = this.#fitOnce(checked, new RandomSource(this.seed, restart));
            if (other.inertia < fit.inertia) fit = other;
          }
          return fit;
        });
        this.#replace(best.centroids);
        return best;
      }),
    );
  }

  /**
   * The nearest centroid of each point: of several equally near the first.
   *
   * @param points floating-point [N, D] on the centroids' device
   * @returns int64 [N]
   */
  predict(points: Tensor): Tensor {
    return this.#nearest(points).assignments;
  }

  /** Σ minₖ |xᵢ − cₖ|² of any points. */
  inertia(points: Tensor): number {
    return scope(() => sumOf(this.#nearest(points).distances));
  }

  /** The centroids, if there are any. */
  stateDict(): StateDict {
    const tensors = new Map(this.#centroids ? [['centroids', this.#centroids.detach()]] : []);
    return { tensors, values: { clusters: this.clusters, spherical: Number(this.spherical) } };
  }

  /** @throws InvalidArgumentError what `loadStateDict` would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    const what = 'KMeans: the state dict';
    const values = jsonObject(state.values, what);
    for (const [name, own] of [
      ['clusters', this.clusters],
      ['spherical', Number(this.spherical)],
    ] as const) {
      const saved = jsonNumber(values, name, what);
      if (saved !== own) throw new InvalidArgumentError(`${what} has ${name} ${saved}, this one ${own}`);
    }
    const centroids = state.tensors.get('centroids');
    if (centroids && (centroids.ndim !== 2 || centroids.shape[0] !== this.clusters || !centroids.isFloatingPoint())) {
      throw new InvalidArgumentError(
        `${what}: 'centroids' must be floating-point [${this.clusters}, D], found ${centroids.dtype} [${centroids.shape.join(', ')}]`,
      );
    }
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    const centroids = state.tensors.get('centroids');
    this.dispose();
    if (centroids) this.#replace(centroids);
  }

  /** Frees the centroids. */
  dispose(): void {
    this.#centroids?.dispose();
    this.#centroids = undefined;
  }

  #replace(centroids: Tensor): void {
    this.#centroids?.dispose();
    this.#centroids = keep(noGrad(() => scope(() => centroids.detach().clone())));
  }

  #nearest(points: Tensor): { assignments: Tensor; distances: Tensor } {
    const { centroids } = this;
    return withoutAutocast(points, () =>
      noGrad(() =>
        scope(() => {
          const checked = checkedPoints(points, 'KMeans: points', this.spherical, centroids.sizeOf(1));
          if (checked.device !== centroids.device) {
            throw new InvalidArgumentError(
              `KMeans: the centroids are on ${centroids.device}, the points on ${points.device}`,
            );
          }
          return nearest(checked, centroids.to({ dtype: checked.dtype }), this.distancesAtOnce);
        }),
      ),
    );
  }

  #fitOnce(points: Tensor, random: RandomSource): KMeansFit {
    return scope(() => {
      const { distancesAtOnce } = this;
      const start =
        this.initialization === 'random'
          ? random.choose(random.permutation(points.sizeOf(0)), this.clusters)
          : plusPlus(points, this.clusters, this.trials, random, distancesAtOnce);
      const tolerance = this.tolerance * points.var([0], { correction: 0 }).mean().itemSync();
      let centroids = points.indexSelect(0, torch.fromTypedArray(start).to({ device: points.device }));
      let found = nearest(points, centroids, distancesAtOnce);
      let iterations = 0;
      let converged = false;
      while (!converged && iterations < this.iterations) {
        iterations++;
        const last = { centroids, found };
        const step = scope(() => {
          const moved = this.#means(points, last.found, last.centroids);
          const now = nearest(points, moved, distancesAtOnce);
          const settled =
            now.assignments.equal(last.found.assignments) ||
            moved.sub(last.centroids).square().sum().itemSync() <= tolerance;
          return { moved, now, settled };
        });
        centroids = step.moved;
        found = step.now;
        converged = step.settled;
        last.centroids.dispose();
        last.found.assignments.dispose();
        last.found.distances.dispose();
      }
      return { centroids, assignments: found.assignments, inertia: sumOf(found.distances), iterations, converged };
    });
  }

  /** The mean of each cluster's points, after empty clusters were given the points furthest from their centroids. */
  #means(points: Tensor, found: { assignments: Tensor; distances: Tensor }, centroids: Tensor): Tensor {
    const { clusters } = this;
    const assignments = withoutEmpty(found.assignments, found.distances, clusters);
    const sums = clusterSums(points, assignments, clusters, this.distancesAtOnce);
    const counts = assignments.bincount({ minlength: clusters }).to({ dtype: 'float64' }).unsqueeze(1);
    const means = sums.div(counts.clampMin(1)).to({ dtype: points.dtype });
    const unit = this.spherical ? functional.normalize(means) : means;
    // An empty cluster stays where it was, and so does, on the sphere, one whose points cancel out.
    const stays = this.spherical ? means.square().sum([1], true).eq(0) : counts.eq(0);
    return torch.where(stays, centroids, unit);
  }
}

/** k-means in one call: `new KMeans(options).fit(points)`. */
export function kMeans(points: Tensor, options: KMeansOptions): KMeansFit {
  const means = new KMeans(options);
  try {
    return means.fit(points);
  } finally {
    means.dispose();
  }
}

function sumOf(distances: Tensor): number {
  return scope(() => distances.sum({ dtype: 'float64' }).itemSync());
}

/** The width of the rows whose sums are weighed on the host. */
const COLUMNS = 1024;

/**
 * Rows drawn with a probability in proportion to weights [N] of at least zero, independently. First a row of 1,024 weights by its sum, then
 * one in it: sums of rows have one order on every device, unlike running sums.
 */
function drawRows(weights: Tensor, count: number, random: RandomSource): number[] {
  return scope(() => {
    const size = weights.sizeOf(0);
    const width = Math.min(size, COLUMNS);
    const padded = torch.constantPadNd(weights.to({ dtype: 'float64' }), [0, (width - (size % width)) % width]);
    const table = padded.view([-1, width]);
    const sums = table.sum([1]).dataSync() as Float64Array;
    const total = sums.reduce((sum, value) => sum + value, 0);
    return Array.from({ length: count }, () => {
      // Every point is one of the centroids already: any will do.
      if (!(total > 0)) return random.integer(size);
      const row = random.weighted(sums, total);
      const values = scope(() => table.select(0, row).dataSync() as Float64Array);
      return row * width + random.weighted(values, sums[row]!);
    });
  });
}

/** The rows of K points by (greedy) k-means++. */
function plusPlus(points: Tensor, clusters: number, trials: number, random: RandomSource, atOnce: number): Int32Array {
  const chosen = new Int32Array(clusters);
  chosen[0] = random.integer(points.sizeOf(0));
  const moved = points.sub(points.mean([0]));
  const squares = moved.square().sum([1], true);
  let least = squaredDistances(moved, [chosen[0]], squares, atOnce).squeeze(1);
  for (let cluster = 1; cluster < clusters; cluster++) {
    const last = least;
    const { row, distances } = scope(() => {
      const rows = drawRows(last, trials, random);
      const all = squaredDistances(moved, rows, squares, atOnce).minimum(last.unsqueeze(1));
      const potentials = Array.from(all.sum([0], { dtype: 'float64' }).dataSync() as Float64Array);
      const best = potentials.indexOf(Math.min(...potentials));
      return { row: rows[best]!, distances: all.select(1, best).contiguous() };
    });
    last.dispose();
    least = distances;
    chosen[cluster] = row;
  }
  for (const tensor of [least, moved, squares]) tensor.dispose();
  return chosen;
}

/** The squared distances of all points to some of them, [N, rows]. */
function squaredDistances(points: Tensor, rows: number[], squares: Tensor, atOnce: number): Tensor {
  return scope(() => {
    const chosen = torch.tensor(rows, { dtype: 'int64', device: points.device });
    const targets = points.indexSelect(0, chosen).t();
    const blocks = rowsAtOnce(Math.max(rows.length, points.sizeOf(1)), atOnce);
    const products = torch.cat(points.split(blocks).map((part) => part.matmul(targets)));
    // Rounding may leave less than nothing.
    return products.mul_(-2).add_(squares).add_(squares.indexSelect(0, chosen).squeeze(1)).clampMin_(0);
  });
}
