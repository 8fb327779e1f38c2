import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest, Groups, integers, numbered, type Integers } from './groups';
import { Deck, type RandomSource } from './random-source';
import { EpochSampler, type SamplerOptions } from './sampler';

/** What {@link MPerClassSampler} takes. */
export interface MPerClassSamplerOptions extends SamplerOptions {
  /** The class of each row. */
  labels: Integers;
  /** P: different classes a batch. */
  classesPerBatch: number;
  /** K: rows of each of them. */
  samplesPerClass: number;
  /** Batches an epoch. Default: ⌈N / (P·K)⌉. */
  batches?: number;
}

/**
 * P classes of K rows each in every batch (Schroff, Kalenichenko and Philbin 2015, "FaceNet"; Hermans, Beyer and Leibe 2017, "In Defense of
 * the Triplet Loss"), class by class: supervised losses and triplet miners need several rows of a class in a batch.
 *
 * Classes are dealt like cards: all come up equally often within an epoch, up to one. So are the rows of a class: none comes again before
 * the others have; a class of fewer than K rows repeats them. An epoch thus need not see every row of a large class. (The sampler of that
 * name in pytorch-metric-learning draws classes and rows anew for each batch, and its epoch has 100,000 rows.)
 */
export class MPerClassSampler extends EpochSampler {
  readonly classesPerBatch: number;
  readonly samplesPerClass: number;
  readonly #groups: Groups;
  readonly #batches: number;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit, for instance more classes a batch than there are */
  constructor(options: MPerClassSamplerOptions) {
    const labels = integers(options.labels, 'MPerClassSampler: labels');
    super(labels.length, options);
    this.classesPerBatch = positiveInteger(options.classesPerBatch, 'MPerClassSampler: classesPerBatch');
    this.samplesPerClass = positiveInteger(options.samplesPerClass, 'MPerClassSampler: samplesPerClass');
    const { numbers, count } = numbered(labels);
    if (this.classesPerBatch > count) {
      throw new InvalidArgumentError(
        `MPerClassSampler: classesPerBatch must be at most the ${count} classes, found ${this.classesPerBatch}`,
      );
    }
    this.#groups = Groups.of(numbers, count);
    const batchSize = this.classesPerBatch * this.samplesPerClass;
    this.#batches = positiveInteger(options.batches ?? Math.ceil(this.size / batchSize), 'MPerClassSampler: batches');
    this.#digest = digest(labels);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const { classesPerBatch, samplesPerClass } = this;
    const rows = Array.from({ length: this.#groups.count }, (_, label) => new Deck(this.#groups.of(label), random));
    const classes = new Deck(Array.from(rows.keys()), random);
    return Array.from({ length: this.#batches }, () => {
      const batch = new Int32Array(classesPerBatch * samplesPerClass);
      classes.deal(classesPerBatch).forEach((label, place) => {
        batch.set(rows[label]!.deal(samplesPerClass), place * samplesPerClass);
      });
      return batch;
    });
  }

  protected override identity(): JsonObject {
    const { classesPerBatch, samplesPerClass } = this;
    return { classesPerBatch, samplesPerClass, batches: this.#batches, labels: this.#digest };
  }
}
