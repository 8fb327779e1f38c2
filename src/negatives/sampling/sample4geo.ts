import { integerFrom, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject, type Tensor } from '../../torch';
import { digest, integers, numbered, type Integers } from './groups';
import { nearestBySimilarity, nearestOnGlobe } from './neighbours';
import { checkRows } from './ngame';
import type { RandomSource } from './random-source';
import { RefreshableSampler, type SamplerOptions } from './sampler';

/** What {@link Sample4GeoSampler} takes. */
export interface Sample4GeoSamplerOptions extends SamplerOptions {
  /** The number of rows of the data set: pairs of views. */
  size: number;
  /** The place that each row shows, if several rows show one: two of a place never meet in a batch. Default: each its own. */
  ids?: Integers;
  /** Latitude and longitude in degrees, [N, 2]: neighbours until the first `refresh`. Without, batches are random until then. */
  coordinates?: Tensor;
  /** Rows a batch, of all ranks together. Default: 128. */
  batchSize?: number;
  /** How many neighbours follow each row into its batch, half of them the nearest ones. Default: 64. */
  neighbourSelect?: number;
  /** Among how many nearest the other half is drawn. Default: 128, or all rows but one. */
  neighbourRange?: number;
  /** Whether a last batch of fewer rows is left out, as by the authors. Default: true. */
  dropLast?: boolean;
}

/**
 * Sample4Geo (Deuser, Habel and Oswald 2023, "Sample4Geo: Hard Negative Sampling For Cross-View Geo-Localisation"): each batch is filled
 * with rows and their neighbours, which are hard negatives: geographic neighbours at first, later those that the model itself holds for
 * similar.
 *
 * Rows are taken in random order. Each brings along the `neighbourSelect / 2` nearest of its neighbours and as many random ones of the
 * rest within `neighbourRange`, as long as they fit and have not been used; a row whose place is in the batch already waits for a later
 * batch. Each row comes at most once an epoch. As in the authors' code, whose loss is a symmetric InfoNCE. Batches that can't be shared
 * out evenly lose rows by default (`shard.remainder` `'drop'`).
 */
export class Sample4GeoSampler extends RefreshableSampler {
  readonly batchSize: number;
  readonly neighbourSelect: number;
  readonly neighbourRange: number;
  readonly dropLast: boolean;
  readonly #places: Int32Array;
  readonly #placeCount: number;
  readonly #geographic: Int32Array | undefined;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: Sample4GeoSamplerOptions) {
    const what = 'Sample4GeoSampler';
    super(options.size, options, 'drop');
    this.batchSize = positiveInteger(options.batchSize ?? 128, `${what}: batchSize`);
    this.neighbourSelect = integerFrom(0, options.neighbourSelect ?? 64, `${what}: neighbourSelect`);
    const most = this.size - 1;
    this.neighbourRange = integerFrom(0, options.neighbourRange ?? Math.min(128, most), `${what}: neighbourRange`);
    if (this.neighbourRange > most) {
      throw new InvalidArgumentError(`${what}: neighbourRange must be at most ${most}, found ${this.neighbourRange}`);
    }
    this.dropLast = options.dropLast ?? true;
    const ids = options.ids === undefined ? undefined : integers(options.ids, `${what}: ids`, this.size);
    const places = numbered(ids ?? Int32Array.from({ length: this.size }, (_, row) => row));
    this.#places = places.numbers;
    this.#placeCount = places.count;
    if (options.coordinates) {
      checkRows(options.coordinates, this.size, `${what}: coordinates`);
      const near = nearestOnGlobe(options.coordinates, this.neighbourRange, what);
      this.#geographic = Int32Array.from(near.dataSync() as BigInt64Array, Number);
      near.dispose();
    }
    this.#digest = digest(this.#places, this.#geographic ?? new Int32Array(0));
  }

  /**
   * Takes the neighbours by cosine similarity of the present embeddings, from the next epoch on.
   *
   * @param queries floating-point [N, D]: the first view of each row
   * @param gallery [N, D]: its second view, among which the neighbours are looked up. Default: the queries
   * @throws InvalidArgumentError if they do not fit
   */
  refresh(queries: Tensor, gallery: Tensor = queries): void {
    checkRows(queries, this.size, 'Sample4GeoSampler: queries');
    const near = nearestBySimilarity(queries, gallery, this.neighbourRange, 'Sample4GeoSampler');
    this.renew({ neighbours: Int32Array.from(near.dataSync() as BigInt64Array, Number) });
    near.dispose();
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const { batchSize, neighbourRange, neighbourSelect } = this;
    const neighbours = this.derived?.['neighbours'] ?? this.#geographic;
    const half = Math.min(Math.floor(neighbourSelect / 2), neighbourRange);
    const batches: Int32Array[] = [];
    const used = new Uint8Array(this.size);
    /** The last batch that shows a place. */
    const shows = new Int32Array(this.#placeCount).fill(-1);
    let batch: number[] = [];
    const add = (row: number): boolean => {
      const place = this.#places[row]!;
      if (used[row] || shows[place] === batches.length || batch.length === batchSize) return false;
      used[row] = 1;
      shows[place] = batches.length;
      batch.push(row);
      return true;
    };
    const close = (): void => {
      batches.push(Int32Array.from(batch));
      batch = [];
    };
    let waiting = random.permutation(this.size);
    while (waiting.length > 0) {
      const before = batches.length;
      for (const row of waiting) {
        if (add(row) && neighbours) {
          const near = neighbours.subarray(row * neighbourRange, (row + 1) * neighbourRange);
          const rest = near.subarray(half);
          near.subarray(0, half).forEach(add);
          random.choose(rest, Math.min(half, rest.length)).forEach(add);
        }
        if (batch.length === batchSize) close();
      }
      waiting = waiting.filter((row) => !used[row]);
      // Whatever still waits has its place in the open batch.
      if (waiting.length > 0 && batches.length === before) close();
    }
    if (batch.length > 0) close();
    return this.dropLast ? batches.filter((rows) => rows.length === batchSize) : batches;
  }

  protected override identity(): JsonObject {
    const { batchSize, neighbourSelect, neighbourRange, dropLast } = this;
    return { batchSize, neighbourSelect, neighbourRange, dropLast, places: this.#digest };
  }

  protected override derivedLengths(): Record<string, number> {
    return { neighbours: this.size * this.neighbourRange };
  }

  protected override derivedRange(): readonly [number, number] {
    return [0, this.size - 1];
  }
}
