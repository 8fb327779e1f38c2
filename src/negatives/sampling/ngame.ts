import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject, type Tensor } from '../../torch';
import { balancedKMeans } from '../clustering/balanced-k-means';
import { Groups, integers } from './groups';
import type { RandomSource } from './random-source';
import { inBatches, RefreshableSampler, type SamplerOptions } from './sampler';

/** What {@link NgameSampler} takes. */
export interface NgameSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set. */
  size: number;
  /** Rows a batch, of all ranks together. */
  batchSize: number;
  /** Rows of a cluster: at most a batch. The larger, the more of a batch's rows are near each other. Default: batchSize / 8, from 2. */
  clusterSize?: number;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/**
 * NGAME (Dahiya and others 2023, "NGAME: Negative Mining-aware Mini-batching for Extreme Classification"): rows are clustered by their
 * present embeddings into small clusters of equal size, and a batch is a union of random clusters. Then each row meets its neighbours, and
 * the other rows' positives are hard negatives at no further cost.
 *
 * Each row comes once an epoch. Before the first {@link NgameSampler.refresh} the order is random, as during the warm-up of the authors'
 * code, which refreshes every few epochs. Clusters are made by balanced halving by cosine ({@link balancedKMeans}). The sampler is checked
 * against the authors' code in how epochs, warm-up and refreshes go; how they cluster, and the cluster sizes of the paper, were not to be
 * had.
 *
 * For retrieval and extreme classification with in-batch negatives.
 */
export class NgameSampler extends RefreshableSampler {
  readonly batchSize: number;
  readonly clusterSize: number;
  readonly dropLast: boolean;
  readonly #clusters: number;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: NgameSamplerOptions) {
    super(options.size, options);
    this.batchSize = positiveInteger(options.batchSize, 'NgameSampler: batchSize');
    const ownSize = Math.min(this.batchSize, Math.max(2, Math.floor(this.batchSize / 8)));
    this.clusterSize = positiveInteger(options.clusterSize ?? ownSize, 'NgameSampler: clusterSize');
    if (this.clusterSize > this.batchSize) {
      throw new InvalidArgumentError(
        `NgameSampler: clusterSize must be at most the batch of ${this.batchSize}, found ${this.clusterSize}`,
      );
    }
    this.dropLast = options.dropLast ?? false;
    this.#clusters = Math.ceil(this.size / this.clusterSize);
  }

  /**
   * Clusters the rows anew, from the next epoch on.
   *
   * @param embeddings floating-point [N, D], row i of the data set's row i
   * @throws InvalidArgumentError if they do not fit
   */
  refresh(embeddings: Tensor): void {
    checkRows(embeddings, this.size, 'NgameSampler: embeddings');
    const { seed } = this;
    const { assignments, centroids } = balancedKMeans(embeddings, { clusters: this.#clusters, spherical: true, seed });
    this.renew({ clusters: integers(assignments, 'NgameSampler: clusters') });
    assignments.dispose();
    centroids.dispose();
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const clusters = this.derived?.['clusters'];
    if (!clusters) return inBatches(random.permutation(this.size), this.batchSize, this.dropLast);
    const groups = Groups.of(clusters, this.#clusters);
    const order = new Int32Array(this.size);
    let end = 0;
    for (const cluster of random.permutation(this.#clusters)) {
      order.set(groups.of(cluster), end);
      end += groups.sizeOf(cluster);
    }
    return inBatches(order, this.batchSize, this.dropLast);
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, clusterSize: this.clusterSize, dropLast: this.dropLast };
  }

  protected override derivedLengths(): Record<string, number> {
    return { clusters: this.size };
  }

  protected override derivedRange(): readonly [number, number] {
    return [0, this.#clusters - 1];
  }
}

/** @throws InvalidArgumentError naming `what`, unless there is one row for each row of the data set */
export function checkRows(embeddings: Tensor, size: number, what: string): void {
  if (embeddings.ndim === 2 && embeddings.shape[0] === size && embeddings.isFloatingPoint()) return;
  throw new InvalidArgumentError(
    `${what} must be floating-point [${size}, D], found ${embeddings.dtype} [${embeddings.shape.join(', ')}]`,
  );
}
