import { integerFrom, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, noGrad, scope, type JsonObject, type Tensor } from '../../torch';
import { hierarchicalKMeans, type HierarchicalKMeansOptions } from '../clustering/hierarchical-k-means';
import { Groups } from './groups';
import { checkRows } from './ngame';
import { RandomSource } from './random-source';
import { inBatches, RefreshableSampler, type SamplerOptions } from './sampler';

/**
 * As many of each of several heaps as level them out: min(x, size), with the x for which they add up to `total`; where no whole x does,
 * random ones of the larger heaps give one more.
 *
 *     Σⱼ min(x, sizeⱼ) = total
 *
 * @returns one number for each heap; all of everything if `total` is more than there is
 */
export function levelled(sizes: ArrayLike<number>, total: number, random: RandomSource): Int32Array {
  const heaps = Int32Array.from(sizes);
  const sum = (x: number) => heaps.reduce((all, size) => all + Math.min(x, size), 0);
  if (sum(Infinity) <= total) return heaps;
  let [low, high] = [0, heaps.reduce((most, size) => Math.max(most, size), 0)];
  // sum(low) ≤ total < sum(high)
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (sum(middle) <= total) low = middle;
    else high = middle;
  }
  const given = heaps.map((size) => Math.min(low, size));
  const larger = Int32Array.from(heaps.keys()).filter((heap) => heaps[heap]! > low);
  for (const heap of random.choose(larger, total - sum(low))) given[heap]!++;
  return given;
}

/**
 * Rows drawn evenly from a hierarchy of clusters (Vo and others 2024): from the top down, each cluster's share is levelled out among the
 * clusters below ({@link levelled}), and in the lowest ones rows are taken at random or nearest to the centroid first.
 *
 * @param levels the cluster of each row, then the cluster of each of these clusters, and so on up
 * @param counts the number of clusters of each level
 * @param total how many rows to draw; all if there are fewer
 * @param distances the order in which rows of a cluster are taken: the least first. Without, random
 * @returns the rows, each once, in ascending order
 */
export function hierarchicalDraw(
  levels: readonly Int32Array[],
  counts: readonly number[],
  total: number,
  random: RandomSource,
  distances?: ArrayLike<number>,
): Int32Array {
  const members = levels.map((level, index) => Groups.of(level, counts[index]!));
  // How many rows each cluster of each level holds.
  const sizes: Int32Array[] = [];
  members.forEach((groups, level) => {
    const below = sizes[level - 1];
    sizes.push(
      Int32Array.from({ length: groups.count }, (_, cluster) =>
        below ? groups.of(cluster).reduce((sum, child) => sum + below[child]!, 0) : groups.sizeOf(cluster),
      ),
    );
  });
  let shares = levelled(sizes[sizes.length - 1]!, total, random);
  for (let level = members.length - 1; level > 0; level--) {
    const below = new Int32Array(members[level - 1]!.count);
    shares.forEach((share, cluster) => {
      const children = members[level]!.of(cluster);
      const given = levelled(
        children.map((child) => sizes[level - 1]![child]!),
        share,
        random,
      );
      children.forEach((child, place) => (below[child] = given[place]!));
    });
    shares = below;
  }
  const rows: Int32Array[] = [];
  shares.forEach((share, cluster) => {
    const own = members[0]!.of(cluster);
    if (!distances) rows.push(random.choose(own, share));
    else
      rows.push(
        own
          .slice()
          .sort((a, b) => distances[a]! - distances[b]!)
          .subarray(0, share),
      );
  });
  const drawn = new Int32Array(rows.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of rows) {
    drawn.set(part, end);
    end += part.length;
  }
  return drawn.sort();
}

/** What {@link HierarchicalCurationSampler} takes. */
export interface HierarchicalCurationSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set. */
  size: number;
  /** How many of them make up the curated set. */
  curatedSize: number;
  /** Rows a batch, of all ranks together. */
  batchSize: number;
  /** The number of clusters of each level, from the rows up. */
  clusters: readonly number[];
  /** How the clusters are made. */
  clustering?: Omit<HierarchicalKMeansOptions, 'clusters' | 'seed'>;
  /** Which rows of a cluster are taken: any, or those nearest to its centroid. Default: `'random'`. */
  take?: 'random' | 'closest';
  /** Whether each epoch draws its rows anew; otherwise the set is curated once for each refresh. Default: false. */
  redraw?: boolean;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/**
 * Curation by hierarchical k-means (Vo and others 2024, "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based
 * Approach"): rows are clustered, the clusters clustered, and so on ({@link hierarchicalKMeans}); a curated set is drawn evenly from the
 * top of the hierarchy down ({@link hierarchicalDraw}), so that rare concepts have as many rows as frequent ones, as long as they last. An
 * epoch goes through the curated set in a random order. As in the authors' code, without their option of repeating rows.
 *
 * For self-supervised training on uncurated data, whose frequent concepts would fill the batches.
 */
export class HierarchicalCurationSampler extends RefreshableSampler {
  readonly curatedSize: number;
  readonly batchSize: number;
  readonly clusters: readonly number[];
  readonly take: 'random' | 'closest';
  readonly redraw: boolean;
  readonly dropLast: boolean;
  readonly #clustering: Omit<HierarchicalKMeansOptions, 'clusters' | 'seed'>;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: HierarchicalCurationSamplerOptions) {
    const what = 'HierarchicalCurationSampler';
    super(options.size, options);
    this.curatedSize = positiveInteger(options.curatedSize, `${what}: curatedSize`);
    if (this.curatedSize > this.size) {
      throw new InvalidArgumentError(
        `${what}: curatedSize must be at most the ${this.size} rows, found ${this.curatedSize}`,
      );
    }
    this.batchSize = positiveInteger(options.batchSize, `${what}: batchSize`);
    this.clusters = options.clusters.map((count) => integerFrom(1, count, `${what}: clusters`));
    this.clusters.forEach((count, level) => {
      const below = level === 0 ? this.size : this.clusters[level - 1]!;
      if (count <= below) return;
      throw new InvalidArgumentError(`${what}: level ${level} can't have ${count} clusters of ${below}`);
    });
    if (this.clusters.length === 0) throw new InvalidArgumentError(`${what}: clusters must have at least one level`);
    this.take = options.take ?? 'random';
    if (!['random', 'closest'].includes(this.take)) {
      throw new InvalidArgumentError(`${what}: take must be 'random' or 'closest', found '${this.take}'`);
    }
    this.redraw = options.redraw ?? false;
    this.dropLast = options.dropLast ?? false;
    this.#clustering = options.clustering ?? {};
  }

  /**
   * Clusters the rows, from the next epoch on. Must be called once before the first batch.
   *
   * @param embeddings floating-point [N, D], row i of the data set's row i
   * @throws InvalidArgumentError if they do not fit
   */
  refresh(embeddings: Tensor): void {
    checkRows(embeddings, this.size, 'HierarchicalCurationSampler: embeddings');
    const levels = hierarchicalKMeans(embeddings, { ...this.#clustering, clusters: this.clusters, seed: this.seed });
    const numbers = (tensor: Tensor) => Int32Array.from(tensor.dataSync() as BigInt64Array, Number);
    const clusters = levels.map(({ assignments }, level) => [`level${level}`, numbers(assignments)] as const);
    this.renew({ ...Object.fromEntries(clusters), ranks: ranksOf(embeddings, levels[0]!) });
    for (const level of levels) {
      level.assignments.dispose();
      level.centroids.dispose();
    }
  }

  /** The rows that the epoch `epoch` goes through, in ascending order. */
  curated(epoch = this.currentEpoch): Int32Array {
    const { derived } = this;
    if (!derived) throw new InvalidArgumentError('HierarchicalCurationSampler: call refresh(embeddings) first');
    // Apart from the streams of epochs, which have one number.
    const random = new RandomSource(this.seed, this.redraw ? epoch : 0, 1);
    const levels = this.clusters.map((_, level) => derived[`level${level}`]!);
    const ranks = this.take === 'closest' ? derived['ranks'] : undefined;
    return hierarchicalDraw(levels, this.clusters, this.curatedSize, random, ranks);
  }

  protected override plan(epoch: number, random: RandomSource): Int32Array[] {
    return inBatches(random.shuffle(this.curated(epoch)), this.batchSize, this.dropLast);
  }

  protected override identity(): JsonObject {
    const { curatedSize, batchSize, take, redraw, dropLast } = this;
    return { curatedSize, batchSize, take, redraw, dropLast, clusters: [...this.clusters] };
  }

  protected override derivedLengths(): Record<string, number> {
    const levels = this.clusters.map((_, level) => [`level${level}`, level ? this.clusters[level - 1]! : this.size]);
    return { ...(Object.fromEntries(levels) as Record<string, number>), ranks: this.size };
  }

  protected override derivedRange(name: string): readonly [number, number] {
    return [0, name === 'ranks' ? this.size - 1 : this.clusters[Number(name.slice('level'.length))]! - 1];
  }
}

/** The rows numbered by their distance to their own centroid, from 0 for the nearest. */
function ranksOf(embeddings: Tensor, level: { centroids: Tensor; assignments: Tensor }): Int32Array {
  const order = noGrad(() =>
    scope(() => {
      const own = level.centroids.indexSelect(0, level.assignments);
      const distances = embeddings.to({ dtype: own.dtype }).sub(own).square().sum([1]);
      return distances.argsort({ stable: true }).argsort().to({ dtype: 'int32' });
    }),
  );
  const ranks = Int32Array.from(order.dataSync() as Int32Array);
  order.dispose();
  return ranks;
}
