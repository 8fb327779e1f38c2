/** k-means of k-means: clusters of clusters. */
import { integerFrom, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { RandomSource } from '../sampling/random-source';
import { KMeans, type KMeansOptions } from './k-means';
import { checkedPoints } from './points';

/** What {@link hierarchicalKMeans} takes. */
export interface HierarchicalKMeansOptions extends Omit<KMeansOptions, 'clusters'> {
  /** The number of clusters of each level, from the points up, each at most that of the level below. */
  clusters: readonly number[];
  /** How many times each level is clustered anew from points resampled evenly. Default 10. */
  resamples?: number;
  /** How many points of each cluster are resampled at each level; 1 leaves resampling out. Default 15 at the first level, 2 above. */
  resampleSize?: number | readonly number[];
  /**
   * Whether a cluster's points nearest to its centroid are resampled, or any. Default `'closest'`, as in the authors' code; `'random'` spreads
   * centroids over thin regions in fewer rounds.
   */
  resampleBy?: 'closest' | 'random';
}

/** One level of a hierarchy. */
export interface ClusterLevel {
  /** [K, D], in float64 for float64 points, else float32. */
  centroids: Tensor;
  /** int64: the cluster of each point (first level), or of each cluster of the level below. */
  assignments: Tensor;
}

/**
 * Hierarchical k-means with resampling (Vo and others 2024, "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based
 * Approach"): each level clusters the centroids of the level below, the first level the points. Plain k-means puts most centroids where
 * most points are. So each level repeats: take the r points of each cluster that are nearest to its centroid, cluster only these, and assign
 * all points to the new centroids; the centroids spread evenly over what there is.
 *
 * Follows the authors' code: with `resamples` m the level is clustered m + 1 times. Their configurations differ in r and m; the
 * defaults here are those of no paper.
 *
 * For curating data ({@link HierarchicalCurationSampler}) and for labels at several levels.
 *
 * @param points floating-point [N, D]; no gradient flows
 * @returns the levels, from the points up
 * @throws InvalidArgumentError for options that do not fit, other shapes or dtypes, NaN, infinity, or a level of more clusters than there
 * is to cluster
 */
export function hierarchicalKMeans(points: Tensor, options: HierarchicalKMeansOptions): ClusterLevel[] {
  const { clusters, resamples = 10, resampleSize = clusters.map((_, level) => (level === 0 ? 15 : 2)) } = options;
  const { resampleBy = 'closest', spherical = false, seed = 0 } = options;
  integerFrom(0, resamples, 'hierarchicalKMeans: resamples');
  const sizes = typeof resampleSize === 'number' ? clusters.map(() => resampleSize) : resampleSize;
  if (clusters.length === 0 || sizes.length !== clusters.length) {
    throw new InvalidArgumentError(
      `hierarchicalKMeans: clusters and resampleSize need one number for each level, found ${clusters.length} and ${sizes.length}`,
    );
  }
  sizes.forEach((size) => positiveInteger(size, 'hierarchicalKMeans: resampleSize'));
  if (!['closest', 'random'].includes(resampleBy)) {
    throw new InvalidArgumentError(
      `hierarchicalKMeans: resampleBy must be 'closest' or 'random', found '${String(resampleBy)}'`,
    );
  }
  return withoutAutocast(points, () =>
    noGrad(() =>
      scope(() => {
        let below = checkedPoints(points, 'hierarchicalKMeans: points', spherical);
        return clusters.map((count, level) => {
          positiveInteger(count, 'hierarchicalKMeans: clusters');
          if (count > below.sizeOf(0)) {
            throw new InvalidArgumentError(
              `hierarchicalKMeans: level ${level} can't make ${count} clusters of ${below.sizeOf(0)}`,
            );
          }
          const random = new RandomSource(seed, level);
          const seeds = () => random.bits();
          const found = levelOf(below, sizes[level]!, sizes[level]! > 1 ? resamples : 0, resampleBy, random, () => {
            return new KMeans({ ...options, clusters: count, seed: seeds() });
          });
          below = found.centroids;
          return found;
        });
      }),
    ),
  );
}

function levelOf(
  points: Tensor,
  size: number,
  resamples: number,
  by: 'closest' | 'random',
  random: RandomSource,
  means: () => KMeans,
): ClusterLevel {
  return scope(() => {
    const fit = (of: Tensor): ClusterLevel => {
      const model = means();
      const { centroids } = model.fit(of);
      const assignments = model.predict(points);
      model.dispose();
      return { centroids, assignments };
    };
    let level = fit(points);
    for (let time = 0; time < resamples; time++) {
      const last = level;
      level = scope(() => fit(points.indexSelect(0, evenly(points, last, size, by, random))));
    }
    return level;
  });
}

/** The positions of at most `size` points of each cluster. */
function evenly(
  points: Tensor,
  level: ClusterLevel,
  size: number,
  by: 'closest' | 'random',
  random: RandomSource,
): Tensor {
  return scope(() => {
    const { device } = points;
    const order =
      by === 'closest'
        ? ownDistances(points, level).argsort({ stable: true })
        : torch.fromTypedArray(random.permutation(points.sizeOf(0)), undefined, { dtype: 'int64' }).to({ device });
    const clusters = level.assignments.indexSelect(0, order);
    const byCluster = clusters.argsort({ stable: true });
    const sorted = clusters.indexSelect(0, byCluster);
    const counts = sorted.bincount({ minlength: level.centroids.sizeOf(0) });
    const starts = counts.cumsum(0).sub(counts);
    const place = torch.arange(sorted.sizeOf(0), { device }).sub(starts.indexSelect(0, sorted));
    return order.indexSelect(0, byCluster.maskedSelect(place.lt(size)));
  });
}

function ownDistances(points: Tensor, level: ClusterLevel): Tensor {
  return points.sub(level.centroids.indexSelect(0, level.assignments)).square().sum([1]);
}
