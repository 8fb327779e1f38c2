import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SamplerOptions } from './sampler';

/**
 * How epochs are ordered: `'single-shuffle'` draws one order and keeps it, so every epoch has the same batches; `'random-reshuffle'`
 * draws a new one for each epoch.
 */
export type ShuffleMode = 'single-shuffle' | 'random-reshuffle';

/** What {@link ShuffleSampler} takes. */
export interface ShuffleSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set. */
  size: number;
  /** Rows a batch, of all ranks together. */
  batchSize: number;
  mode: ShuffleMode;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/**
 * Each row once an epoch, in an order that is drawn once or for each epoch. The first epoch is the same in both modes, and with
 * `'random-reshuffle'` all are those of `RandomSampler`.
 *
 * With batch norm the two train differently: with a single shuffle each row is always normalised in the same company, so training
 * fits the data as these batches distort them, and can diverge on the data themselves. Reshuffle, or look at `shuffleDivergence`.
 *
 * Wu, Yun and Sra 2023, On the Training Instability of Shuffling SGD with Batch Normalization.
 */
export class ShuffleSampler extends EpochSampler {
  readonly batchSize: number;
  readonly mode: ShuffleMode;
  readonly dropLast: boolean;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: ShuffleSamplerOptions) {
    super(options.size, options);
    this.batchSize = positiveInteger(options.batchSize, 'ShuffleSampler: batchSize');
    this.mode = options.mode;
    if (!['single-shuffle', 'random-reshuffle'].includes(this.mode)) {
      throw new InvalidArgumentError(
        `ShuffleSampler: mode must be 'single-shuffle' or 'random-reshuffle', found '${String(this.mode)}'`,
      );
    }
    this.dropLast = options.dropLast ?? false;
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const source = this.mode === 'single-shuffle' ? new RandomSource(this.seed, 0) : random;
    return inBatches(source.permutation(this.size), this.batchSize, this.dropLast);
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, dropLast: this.dropLast, mode: this.mode };
  }
}
