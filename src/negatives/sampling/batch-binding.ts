import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest, Groups, integers, numbered, type Integers } from './groups';
import { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SamplerOptions } from './sampler';

/** What {@link BatchBindingSampler} takes. */
export interface BatchBindingSamplerOptions extends SamplerOptions {
  /** The class of each row. */
  labels: Integers;
  /** Rows a batch, besides the binding ones. */
  batchSize: number;
  /** How many rows of each class bind the batches; 1 in the paper. Default: 1. */
  perClass?: number;
  /** The binding rows, in place of drawn ones: at least one of each class. */
  binding?: Integers;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/**
 * Shuffled batches, to each of which the same few rows of every class are appended: batch-binding. With them every batch has all classes
 * and any two batches share an example of each, so that the mini-batch losses of supervised contrastive learning have one best geometry
 * between them, classes at right angles, and get there faster; without, classes that never meet are free to coincide.
 *
 * The binding rows are drawn once from the seed (the same in all epochs), or given. They stand at the end of each batch, class by class in
 * the order of first sight, and are left out of the shuffled rows, so that no row stands in a batch twice; an epoch sees every other
 * row once. A batch has `batchSize` rows and the binding ones.
 *
 * Beside `ReluNormalize` and a supervised contrastive loss. Where there are so many classes that a row of each is too much for a batch,
 * use `MPerClassSampler`.
 *
 * Kini et al. 2024, Symmetric Neural-Collapse Representations with Supervised Contrastive Loss: The Impact of ReLU and Batching. That one
 * fixed example of each class binds is from memory, the paper's section could not be read; that they are not drawn again as ordinary
 * rows is our choice.
 */
export class BatchBindingSampler extends EpochSampler {
  readonly batchSize: number;
  readonly dropLast: boolean;
  /** The rows that are in every batch. */
  readonly binding: Int32Array;
  readonly #others: Int32Array;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit, for instance a class with fewer rows than `perClass` */
  constructor(options: BatchBindingSamplerOptions) {
    const what = 'BatchBindingSampler';
    const labels = integers(options.labels, `${what}: labels`);
    super(labels.length, options);
    this.batchSize = positiveInteger(options.batchSize, `${what}: batchSize`);
    this.dropLast = options.dropLast ?? false;
    const { numbers, count } = numbered(labels);
    if (options.binding !== undefined && options.perClass !== undefined) {
      throw new InvalidArgumentError(`${what}: give binding or perClass, not both`);
    }
    this.binding =
      options.binding === undefined
        ? this.#drawn(Groups.of(numbers, count), labels, positiveInteger(options.perClass ?? 1, `${what}: perClass`))
        : this.#checked(integers(options.binding, `${what}: binding`), numbers, count);
    const bound = new Set(this.binding);
    this.#others = Int32Array.from({ length: this.size }, (_, row) => row).filter((row) => !bound.has(row));
    const least = this.dropLast ? this.batchSize : 1;
    if (this.#others.length < least) {
      throw new InvalidArgumentError(
        `${what}: of ${this.size} rows ${this.binding.length} bind, and ${this.#others.length} are left, too few for a batch`,
      );
    }
    this.#digest = digest(labels, this.binding);
  }

  #drawn(groups: Groups, labels: Int32Array, perClass: number): Int32Array {
    // A stream of its own: epochs have streams numbered from 0 with no second number.
    const random = new RandomSource(this.seed, 0, 1);
    const chosen = Array.from({ length: groups.count }, (_, group) => {
      const rows = groups.of(group);
      if (rows.length < perClass) {
        throw new InvalidArgumentError(
          `BatchBindingSampler: perClass is ${perClass}, but class ${labels[rows[0]!]!} has ${rows.length} rows`,
        );
      }
      return Array.from(random.choose(rows, perClass));
    });
    return Int32Array.from(chosen.flat());
  }

  #checked(binding: Int32Array, numbers: Int32Array, count: number): Int32Array {
    const wrong = binding.find((row) => row < 0 || row >= this.size);
    if (wrong !== undefined || new Set(binding).size < binding.length) {
      throw new InvalidArgumentError(
        `BatchBindingSampler: binding must be different rows from 0 to ${this.size - 1}` +
          (wrong === undefined ? '' : `, found ${wrong}`),
      );
    }
    const bound = new Set(Array.from(binding, (row) => numbers[row]!));
    if (bound.size < count) {
      throw new InvalidArgumentError(
        `BatchBindingSampler: binding must have a row of each of the ${count} classes, found rows of ${bound.size}`,
      );
    }
    return binding;
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    return inBatches(random.shuffle(this.#others.slice()), this.batchSize, this.dropLast).map((rows) =>
      Int32Array.from([...rows, ...this.binding]),
    );
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, dropLast: this.dropLast, labels: this.#digest };
  }
}
