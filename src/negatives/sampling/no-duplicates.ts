import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest } from './groups';
import type { RandomSource } from './random-source';
import { EpochSampler, type SamplerOptions } from './sampler';

/** Something that a row holds and no other row of its batch may: a text, an id. */
export type Key = string | number;

/** What {@link NoDuplicatesSampler} takes. */
export interface NoDuplicatesSamplerOptions extends SamplerOptions {
  /** What each row holds: one key, or several (the text of the query and that of the answer). */
  keys: readonly (Key | readonly Key[])[];
  /** Rows a batch, of all ranks together. */
  batchSize: number;
  /** Whether batches of fewer rows, at the end of an epoch, are left out. Default: false. */
  dropLast?: boolean;
}

/**
 * Batches in which no key comes twice (Reimers and Gurevych's sentence-transformers): where the other rows of a batch are the negatives, a
 * row that shares a text or an id with the anchor would be a false one.
 *
 * Each row comes once an epoch. A row that would meet one of its own keys waits for the next batch. When few different keys are left, the
 * last batches have fewer rows. Batches that can't be shared out evenly lose rows by default (`shard.remainder` `'drop'`): repeating a row
 * would bring its keys twice.
 */
export class NoDuplicatesSampler extends EpochSampler {
  readonly batchSize: number;
  readonly dropLast: boolean;
  /** The keys of row r, as numbers: from `starts[r]` up to `starts[r + 1]`. */
  readonly #starts: Int32Array;
  readonly #keys: Int32Array;
  readonly #count: number;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: NoDuplicatesSamplerOptions) {
    super(options.keys.length, options, 'drop');
    this.batchSize = positiveInteger(options.batchSize, 'NoDuplicatesSampler: batchSize');
    this.dropLast = options.dropLast ?? false;
    const seen = new Map<Key, number>();
    const starts = [0];
    const numbers: number[] = [];
    options.keys.forEach((keys, row) => {
      const own = Array.isArray(keys) ? (keys as readonly Key[]) : [keys as Key];
      for (const key of own) {
        if (typeof key !== 'string' && typeof key !== 'number') {
          throw new InvalidArgumentError(
            `NoDuplicatesSampler: keys must be texts or numbers, found ${typeof key} in row ${row}`,
          );
        }
        let number = seen.get(key);
        if (number === undefined) seen.set(key, (number = seen.size));
        numbers.push(number);
      }
      starts.push(numbers.length);
    });
    this.#starts = Int32Array.from(starts);
    this.#keys = Int32Array.from(numbers);
    this.#count = seen.size;
    this.#digest = digest(this.#starts, this.#keys);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    // The number of the last batch that holds a key.
    const holds = new Int32Array(this.#count).fill(-1);
    const batches: Int32Array[] = [];
    let waiting = random.permutation(this.size);
    while (waiting.length > 0) {
      const batch: number[] = [];
      const later = new Int32Array(waiting.length);
      let put = 0;
      let next = 0;
      for (; next < waiting.length && batch.length < this.batchSize; next++) {
        const row = waiting[next]!;
        const keys = this.#keys.subarray(this.#starts[row], this.#starts[row + 1]);
        if (keys.some((key) => holds[key] === batches.length)) {
          later[put++] = row;
        } else {
          keys.forEach((key) => (holds[key] = batches.length));
          batch.push(row);
        }
      }
      later.set(waiting.subarray(next), put);
      waiting = later.subarray(0, put + waiting.length - next);
      batches.push(Int32Array.from(batch));
    }
    return this.dropLast ? batches.filter((batch) => batch.length === this.batchSize) : batches;
  }

  protected override identity(): JsonObject {
    return { batchSize: this.batchSize, dropLast: this.dropLast, keys: this.#digest };
  }
}
