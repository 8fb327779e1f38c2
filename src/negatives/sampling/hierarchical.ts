import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest, Groups, integers, numbered, type Integers } from './groups';
import { Deck, type RandomSource } from './random-source';
import { EpochSampler, type SamplerOptions } from './sampler';

/** What {@link HierarchicalSampler} takes. */
export interface HierarchicalSamplerOptions extends SamplerOptions {
  /** The class of each row. */
  labels: Integers;
  /** The super-class of each row: all rows of a class have the same. */
  superLabels: Integers;
  /** Rows a batch, of all ranks together: a multiple of `superClassesPerBatch · samplesPerClass`. */
  batchSize: number;
  /** Rows of each class. */
  samplesPerClass: number;
  /** Default: 2. */
  superClassesPerBatch?: number;
  /** How many batches each set of super-classes gets in an epoch. Default: 4. */
  batchesPerSuperTuple?: number;
  /**
   * Batches an epoch, with super-classes dealt like cards. Default: every set of `superClassesPerBatch` super-classes as often as
   * `batchesPerSuperTuple` says.
   */
  batches?: number;
}

/** Sets of super-classes that an epoch may go through. */
const MOST_TUPLES = 1 << 20;

/**
 * Batches of few super-classes (Cakir, He, Xia, Kulis and Sclaroff 2019, "Deep Metric Learning to Rank", in the form of
 * pytorch-metric-learning): a batch has S super-classes, of each of them batchSize / (S·K) classes, and of each class K rows. Negatives
 * from the same super-class are the hard ones.
 *
 * By default an epoch takes every set of S super-classes four times, in a random order. Classes and their rows are dealt like cards: none
 * comes again before the others of its super-class (or class) have. A class of fewer than K rows repeats them. A super-class of fewer
 * classes than a batch needs of it is refused (pytorch-metric-learning makes the batch smaller).
 */
export class HierarchicalSampler extends EpochSampler {
  readonly batchSize: number;
  readonly samplesPerClass: number;
  readonly superClassesPerBatch: number;
  readonly batchesPerSuperTuple: number;
  readonly #classesPerSuper: number;
  readonly #batches: number | undefined;
  /** Classes by super-class, rows by class. */
  readonly #classes: Groups;
  readonly #rows: Groups;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: HierarchicalSamplerOptions) {
    const what = 'HierarchicalSampler';
    const labels = integers(options.labels, `${what}: labels`);
    const superLabels = integers(options.superLabels, `${what}: superLabels`, labels.length);
    super(labels.length, options);
    this.batchSize = positiveInteger(options.batchSize, `${what}: batchSize`);
    this.samplesPerClass = positiveInteger(options.samplesPerClass, `${what}: samplesPerClass`);
    this.superClassesPerBatch = positiveInteger(options.superClassesPerBatch ?? 2, `${what}: superClassesPerBatch`);
    this.batchesPerSuperTuple = positiveInteger(options.batchesPerSuperTuple ?? 4, `${what}: batchesPerSuperTuple`);
    this.#classesPerSuper = this.batchSize / (this.superClassesPerBatch * this.samplesPerClass);
    if (!Number.isInteger(this.#classesPerSuper)) {
      throw new InvalidArgumentError(
        `${what}: batchSize must be a multiple of superClassesPerBatch · samplesPerClass = ` +
          `${this.superClassesPerBatch * this.samplesPerClass}, found ${this.batchSize}`,
      );
    }
    const classes = numbered(labels);
    const supers = numbered(superLabels);
    const superOf = new Int32Array(classes.count).fill(-1);
    classes.numbers.forEach((label, row) => {
      if (superOf[label] === -1) superOf[label] = supers.numbers[row]!;
      if (superOf[label] === supers.numbers[row]) return;
      throw new InvalidArgumentError(`${what}: label ${labels[row]} has several super-labels`);
    });
    this.#rows = Groups.of(classes.numbers, classes.count);
    this.#classes = Groups.of(superOf, supers.count);
    if (this.superClassesPerBatch > supers.count) {
      throw new InvalidArgumentError(
        `${what}: superClassesPerBatch must be at most the ${supers.count} super-classes, found ${this.superClassesPerBatch}`,
      );
    }
    for (let group = 0; group < supers.count; group++) {
      if (this.#classes.sizeOf(group) >= this.#classesPerSuper) continue;
      const name = superLabels[supers.numbers.indexOf(group)];
      throw new InvalidArgumentError(
        `${what}: a batch takes ${this.#classesPerSuper} classes of a super-class, super-label ${name} has ${this.#classes.sizeOf(group)}`,
      );
    }
    if (options.batches === undefined) {
      const tuples = combinationCount(supers.count, this.superClassesPerBatch);
      if (tuples * this.batchesPerSuperTuple > MOST_TUPLES) {
        throw new InvalidArgumentError(
          `${what}: ${tuples} sets of super-classes are too many for an epoch: set batches`,
        );
      }
    } else {
      this.#batches = positiveInteger(options.batches, `${what}: batches`);
    }
    this.#digest = digest(labels, superLabels);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const rows = Array.from({ length: this.#rows.count }, (_, label) => new Deck(this.#rows.of(label), random));
    const classes = Array.from({ length: this.#classes.count }, (_, of) => new Deck(this.#classes.of(of), random));
    return this.#tuples(random).map((tuple) => {
      const parts = tuple.flatMap((superClass) =>
        Array.from(classes[superClass]!.deal(this.#classesPerSuper), (label) =>
          rows[label]!.deal(this.samplesPerClass),
        ),
      );
      const batch = new Int32Array(this.batchSize);
      parts.forEach((part, place) => batch.set(part, place * this.samplesPerClass));
      return batch;
    });
  }

  #tuples(random: RandomSource): number[][] {
    const all = Array.from({ length: this.#classes.count }, (_, superClass) => superClass);
    if (this.#batches !== undefined) {
      const deck = new Deck(all, random);
      return Array.from({ length: this.#batches }, () => Array.from(deck.deal(this.superClassesPerBatch)));
    }
    const tuples = combinations(all, this.superClassesPerBatch);
    return random.shuffle(tuples.flatMap((tuple) => Array.from({ length: this.batchesPerSuperTuple }, () => tuple)));
  }

  protected override identity(): JsonObject {
    const { batchSize, samplesPerClass, superClassesPerBatch, batchesPerSuperTuple } = this;
    const batches = this.#batches ?? null;
    return { batchSize, samplesPerClass, superClassesPerBatch, batchesPerSuperTuple, batches, labels: this.#digest };
  }
}

function combinationCount(of: number, size: number): number {
  let count = 1;
  for (let taken = 0; taken < size; taken++) count = (count * (of - taken)) / (taken + 1);
  return Math.round(count);
}

function combinations(items: number[], size: number): number[][] {
  if (size === 0) return [[]];
  return items.flatMap((item, place) => combinations(items.slice(place + 1), size - 1).map((rest) => [item, ...rest]));
}
