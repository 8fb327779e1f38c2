/** Clusters of equal size, by halving. */
import { functional } from '../../nn';
import { deriveSeed } from '../../data/seed';
import { integerFrom, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { RandomSource } from '../sampling/random-source';
import { checkedPoints, clusterSums, rowsAtOnce } from './points';

/** What {@link balancedKMeans} takes. */
export interface BalancedKMeansOptions {
  /** The number K of clusters. */
  clusters: number;
  /** Steps of each halving at most; it ends when no point changes sides. Default 20. */
  iterations?: number;
  /** Whether points have length one (cosine similarity). Default false. */
  spherical?: boolean;
  /** Default 0. */
  seed?: number;
  /** How many coordinates of points are gathered at once. Default 16,777,216. */
  valuesAtOnce?: number;
}

/** What {@link balancedKMeans} gives. */
export interface BalancedClusters {
  /** int64 [N], from 0 to K − 1: ⌊N/K⌋ or ⌈N/K⌉ points each. Clusters with near numbers are near each other. */
  assignments: Tensor;
  /** The mean of each cluster [K, D] (of length one if spherical), float64 for float64 points, else float32. */
  centroids: Tensor;
}

/** A part of the points that is to become `clusters` clusters, from number `first`. */
interface Part {
  start: number;
  size: number;
  first: number;
  clusters: number;
}

/**
 * Splits points into K clusters whose sizes differ by at most one, by balanced 2-means applied again and again (the label trees of Prabhu,
 * Kag, Harsola, Agrawal and Varma 2018, "Parabel", here for any number of clusters and points): a part that is to become k clusters is
 * halved into ⌊k/2⌋ and ⌈k/2⌉ clusters' worth of points by turns of two steps,
 *
 *     a, b ← the means of both sides;   the side of a ← the points with the largest |x − b|² − |x − a|²
 *
 * with as many points as that side is to have. All parts of a level are halved together. Costs N·D·⌈log₂ K⌉ a step, whatever K: far
 * less than Lloyd's algorithm for many small clusters, but a point near the border of an early halving may end in a cluster that is not its
 * nearest.
 *
 * Deterministic for a seed. For hard batches of equal size ({@link NgameSampler}) and equally filled pseudo-classes.
 *
 * @param points floating-point [N, D] with N at least the number of clusters; no gradient flows
 * @throws InvalidArgumentError for other shapes or dtypes, NaN, infinity, or fewer points than clusters
 */
export function balancedKMeans(points: Tensor, options: BalancedKMeansOptions): BalancedClusters {
  const { spherical = false, seed = 0 } = options;
  const clusters = positiveInteger(options.clusters, 'balancedKMeans: clusters');
  const iterations = integerFrom(1, options.iterations ?? 20, 'balancedKMeans: iterations');
  const atOnce = positiveInteger(options.valuesAtOnce ?? 1 << 24, 'balancedKMeans: valuesAtOnce');
  deriveSeed(seed);
  return withoutAutocast(points, () =>
    noGrad(() =>
      scope(() => {
        const checked = checkedPoints(points, 'balancedKMeans: points', spherical);
        const [count, dimension] = checked.shape as [number, number];
        if (count < clusters) {
          throw new InvalidArgumentError(
            `balancedKMeans: ${clusters} clusters need at least as many points, found ${count}`,
          );
        }
        // Positions of points, in which each part is a range.
        const order = torch.arange(count, { dtype: 'int64', device: points.device });
        let parts: Part[] = [{ start: 0, size: count, first: 0, clusters }];
        for (let level = 0; parts.some((part) => part.clusters > 1); level++) {
          const random = new RandomSource(seed, level);
          const open = parts.filter((part) => part.clusters > 1);
          for (const tile of tiles(open, dimension, atOnce))
            scope(() => halve(checked, order, tile, iterations, random));
          parts = parts.flatMap((part) => (part.clusters > 1 ? sides(part) : [part]));
        }
        const sizes = torch.tensor(
          parts.map((part) => part.size),
          { dtype: 'int64', device: points.device },
        );
        const sorted = torch.arange(clusters, { dtype: 'int64', device: points.device }).repeatInterleave(sizes);
        const assignments = torch.zerosLike(order).indexCopy_(0, order, sorted);
        const means = clusterSums(checked, assignments, clusters, atOnce)
          .div(sizes.unsqueeze(1))
          .to({ dtype: checked.dtype });
        return { assignments, centroids: spherical ? functional.normalize(means) : means };
      }),
    ),
  );
}

/** Both sides of a part: their clusters, and points such that every cluster has ⌊N/K⌋ or ⌈N/K⌉ in the end. */
function sides(part: Part): [Part, Part] {
  const { start, size, first, clusters } = part;
  const left = Math.floor(clusters / 2);
  const each = Math.floor(size / clusters);
  const leftSize = left * each + Math.floor(((size % clusters) * left) / clusters);
  return [
    { start, size: leftSize, first, clusters: left },
    { start: start + leftSize, size: size - leftSize, first: first + left, clusters: clusters - left },
  ];
}

/** Parts in groups whose points, padded to the largest part, fit `atOnce` values. */
function tiles(parts: Part[], dimension: number, atOnce: number): Part[][] {
  const most = Math.max(...parts.map((part) => part.size));
  const rows = rowsAtOnce(most * dimension, atOnce);
  return Array.from({ length: Math.ceil(parts.length / rows) }, (_, tile) =>
    parts.slice(tile * rows, (tile + 1) * rows),
  );
}

/** Orders the points of each part so that those of its first side come first. */
function halve(points: Tensor, order: Tensor, parts: Part[], iterations: number, random: RandomSource): void {
  const { device } = points;
  const column = (of: (part: Part) => number) => torch.tensor(parts.map(of), { dtype: 'int64', device }).unsqueeze(1);
  const width = Math.max(...parts.map((part) => part.size));
  const starts = column((part) => part.start);
  const sizes = column((part) => part.size);
  const wanted = column((part) => sides(part)[0].size);
  const places = torch.arange(width, { dtype: 'int64', device }).unsqueeze(0);
  const there = places.lt(sizes); // [P, W]
  const first = places.lt(wanted);
  const positions = starts.add(places.minimum(sizes.sub(1)));
  const rows = order.indexSelect(0, positions.flatten()).viewAs(positions);
  const own = points.indexSelect(0, rows.flatten()).view([...rows.shape, -1]); // [P, W, D]
  const mean = (side: Tensor) => {
    const weights = side.to({ dtype: own.dtype });
    return weights
      .unsqueeze(1)
      .bmm(own)
      .squeeze(1)
      .div(weights.sum([1], true)); // [P, D]
  };
  const pick = (chosen: Tensor) => own.gather(1, chosen.unsqueeze(2).expand([-1, -1, own.sizeOf(2)])).squeeze(1);
  const distances = (to: Tensor) => own.sub(to.unsqueeze(1)).square().sum([2]);
  // One side starts at a random point, the other at the point furthest from it.
  let a = pick(column((part) => random.integer(part.size)));
  let b = pick(distances(a).maskedFill(there.logicalNot(), -1).argmax(1, true));
  let ranking: Tensor | undefined;
  let inFirst: Tensor | undefined;
  for (let step = 0; step < iterations; step++) {
    // |x − b|² − |x − a|² but for what is the same for all points of the part; padding comes last.
    const gain = own.matmul(a.sub(b).unsqueeze(2)).squeeze(2).maskedFill(there.logicalNot(), -Infinity);
    ranking = gain.argsort({ stable: true, dim: 1, descending: true });
    const now = torch.zerosLike(there).scatter(1, ranking, first);
    if (inFirst?.equal(now)) break;
    inFirst = now;
    a = mean(now);
    b = mean(there.logicalAnd(now.logicalNot()));
  }
  const sorted = rows.gather(1, ranking!);
  order.indexCopy_(0, starts.add(places).maskedSelect(there), sorted.maskedSelect(there));
}
