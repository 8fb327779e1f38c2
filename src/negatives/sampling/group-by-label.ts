import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest, Groups, integers, numbered, type Integers } from './groups';
import type { RandomSource } from './random-source';
import { EpochSampler, type SamplerOptions } from './sampler';

/** What {@link GroupByLabelSampler} takes. */
export interface GroupByLabelSamplerOptions extends SamplerOptions {
  /** The label of each row. */
  labels: Integers;
  /** Rows a batch, of all ranks together: an even number from 4. */
  batchSize: number;
  /** Whether a last batch of fewer rows is left out. Default: false. */
  dropLast?: boolean;
}

/**
 * Batches in which every label has at least two rows and there are at least two labels (the promise of sentence-transformers' sampler of
 * that name), so that each row has a positive and a negative: for batch-hard and other triplet losses in the batch, when P×K
 * ({@link MPerClassSampler}) would repeat rows of small labels.
 *
 * Rows of a label go in random pairs, and pairs in random order; each row comes at most once an epoch. Left out of an epoch are the odd row
 * of a label (another one each epoch), labels of one row, and pairs of one label at the end when no other label is left.
 */
export class GroupByLabelSampler extends EpochSampler {
  readonly batchSize: number;
  readonly dropLast: boolean;
  readonly #groups: Groups;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit, or when fewer than two labels have two rows */
  constructor(options: GroupByLabelSamplerOptions) {
    const labels = integers(options.labels, 'GroupByLabelSampler: labels');
    super(labels.length, options);
    this.batchSize = positiveInteger(options.batchSize, 'GroupByLabelSampler: batchSize');
    if (this.batchSize < 4 || this.batchSize % 2 === 1) {
      throw new InvalidArgumentError(
        `GroupByLabelSampler: batchSize must be an even number from 4, found ${this.batchSize}`,
      );
    }
    this.dropLast = options.dropLast ?? false;
    const { numbers, count } = numbered(labels);
    this.#groups = Groups.of(numbers, count);
    const usable = Array.from({ length: count }, (_, label) => this.#groups.sizeOf(label)).filter((size) => size > 1);
    if (usable.length < 2) {
      throw new InvalidArgumentError('GroupByLabelSampler: labels must have at least two labels of at least two rows');
    }
    this.#digest = digest(labels);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const pairs = Array.from({ length: this.#groups.count }, (_, label) => {
      const rows = random.choose(this.#groups.of(label), this.#groups.sizeOf(label));
      return Array.from({ length: Math.floor(rows.length / 2) }, (_unused, pair) => ({
        label,
        rows: [rows[2 * pair]!, rows[2 * pair + 1]!],
      }));
    });
    const left = random.shuffle(pairs.flat());
    const perBatch = this.batchSize / 2;
    const batches: Int32Array[] = [];
    let next = 0;
    while (next < left.length) {
      const end = Math.min(next + perBatch, left.length);
      const label = left[next]!.label;
      if (!left.slice(next, end).some((pair) => pair.label !== label)) {
        // The last pair of a batch of one label changes places with the first pair of another.
        let other = end;
        while (other < left.length && left[other]!.label === label) other++;
        if (other === left.length) break;
        [left[end - 1], left[other]] = [left[other]!, left[end - 1]!];
      }
      batches.push(Int32Array.from(left.slice(next, end).flatMap((pair) => pair.rows)));
      next = end;
    }
    return this.dropLast ? batches.filter((batch) => batch.length === this.batchSize) : batches;
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, dropLast: this.dropLast, labels: this.#digest };
  }
}
