import { positiveInteger } from '../../nn/checks';
import type { JsonObject } from '../../torch';
import type { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SamplerOptions } from './sampler';

/** What {@link RandomSampler} takes. */
export interface RandomSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set. */
  size: number;
  /** Rows a batch, of all ranks together. */
  batchSize: number;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/** Each row once an epoch, in a random order: what every other sampler is to be compared with. */
export class RandomSampler extends EpochSampler {
  readonly batchSize: number;
  readonly dropLast: boolean;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: RandomSamplerOptions) {
    super(options.size, options);
    this.batchSize = positiveInteger(options.batchSize, 'RandomSampler: batchSize');
    this.dropLast = options.dropLast ?? false;
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    return inBatches(random.permutation(this.size), this.batchSize, this.dropLast);
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, dropLast: this.dropLast };
  }
}
