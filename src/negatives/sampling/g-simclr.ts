import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject, type Tensor } from '../../torch';
import { kMeans } from '../clustering/k-means';
import { Groups, integers, type Integers } from './groups';
import { checkRows } from './ngame';
import type { RandomSource } from './random-source';
import { RefreshableSampler, type SamplerOptions } from './sampler';

/** What {@link GSimclrSampler} takes. */
export interface GSimclrSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set. */
  size: number;
  /** The number of pseudo-classes. */
  clusters: number;
  /** Rows a batch, of all ranks together: at most the number of clusters. Default: that number. */
  batchSize?: number;
  /** The pseudo-class of each row, from 0 to clusters − 1, if they are known. Otherwise call `refresh` first. */
  pseudoLabels?: Integers;
}

/**
 * G-SimCLR (Chakraborty, Gosthipaty and Paul 2020, "G-SimCLR: Self-Supervised Contrastive Learning with Guided Projection via Pseudo
 * Labelling"): k-means gives each row a pseudo-class, and no two rows of a batch have the same one, so that fewer negatives are false. The
 * paper clusters the latent code of a denoising autoencoder, once; any embeddings will do.
 *
 * Each batch takes one random row from each of the clusters that have most rows left, ties at random, which makes as many full batches as
 * there can be. A row comes at most once an epoch. When fewer clusters than a batch needs have rows left, the rest is not used in this epoch
 * (other rows each time): with very unequal clusters many rows of the largest. The rule that no two rows share a pseudo-class is the
 * paper's; how the authors order rows was not checked. Batches that can't be shared out evenly lose rows by default (`shard.remainder`
 * `'drop'`).
 */
export class GSimclrSampler extends RefreshableSampler {
  readonly clusters: number;
  readonly batchSize: number;

  /** @throws InvalidArgumentError naming the option that does not fit, for instance a batch of more rows than clusters */
  constructor(options: GSimclrSamplerOptions) {
    super(options.size, options, 'drop');
    this.clusters = positiveInteger(options.clusters, 'GSimclrSampler: clusters');
    this.batchSize = positiveInteger(options.batchSize ?? this.clusters, 'GSimclrSampler: batchSize');
    if (this.batchSize > this.clusters) {
      throw new InvalidArgumentError(
        `GSimclrSampler: batchSize must be at most the ${this.clusters} clusters, found ${this.batchSize}`,
      );
    }
    if (options.pseudoLabels === undefined) return;
    const clusters = integers(options.pseudoLabels, 'GSimclrSampler: pseudoLabels', this.size);
    if (clusters.some((cluster) => cluster < 0 || cluster >= this.clusters)) {
      throw new InvalidArgumentError(`GSimclrSampler: pseudoLabels must run from 0 to ${this.clusters - 1}`);
    }
    this.renew({ clusters });
  }

  /**
   * Makes pseudo-classes anew by k-means, from the next epoch on.
   *
   * @param embeddings floating-point [N, D], row i of the data set's row i
   * @throws InvalidArgumentError if they do not fit
   */
  refresh(embeddings: Tensor): void {
    checkRows(embeddings, this.size, 'GSimclrSampler: embeddings');
    const { assignments, centroids } = kMeans(embeddings, { clusters: this.clusters, seed: this.seed });
    this.renew({ clusters: integers(assignments, 'GSimclrSampler: clusters') });
    assignments.dispose();
    centroids.dispose();
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const clusters = this.derived?.['clusters'];
    if (!clusters)
      throw new InvalidArgumentError('GSimclrSampler: give pseudoLabels, or call refresh(embeddings) first');
    const groups = Groups.of(clusters, this.clusters);
    const rows = Array.from({ length: groups.count }, (_, cluster) =>
      random.choose(groups.of(cluster), groups.sizeOf(cluster)),
    );
    const left = Int32Array.from(rows, (of) => of.length);
    const batches: Int32Array[] = [];
    for (;;) {
      // A stable sort of a random order: ties are at random.
      const fullest = random.permutation(groups.count).sort((a, b) => left[b]! - left[a]!);
      const chosen = fullest.subarray(0, this.batchSize);
      if (left[chosen[chosen.length - 1]!] === 0) break;
      batches.push(random.shuffle(chosen.map((cluster) => rows[cluster]![--left[cluster]!]!)));
    }
    return batches;
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, clusters: this.clusters };
  }

  protected override derivedLengths(): Record<string, number> {
    return { clusters: this.size };
  }

  protected override derivedRange(): readonly [number, number] {
    return [0, this.clusters - 1];
  }
}
