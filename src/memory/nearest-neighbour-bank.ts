import { InvalidArgumentError, noGrad, scope, type Device, type Tensor } from '../torch';

import { integerFrom } from '../nn/checks';
import { checkColumn, checkRows } from './checks';
import { nearestRows, PART } from './nearest';
import { RingBuffer, type EntryOptions, type GatherRows } from './ring-buffer';
import type { StoredDType } from './stored';
import { RingMemory } from './ring-memory';

/** What a {@link NearestNeighbourBank} is made from. */
export interface NearestNeighbourBankOptions {
  /** How many embeddings it holds. Default 98,304: the paper's number from memory, not checked against it. */
  size?: number;
  /** The size D of an embedding. */
  dimension: number;
  /** Whether entries have labels. Default false. */
  labels?: boolean;
  /** Whether entries have ids, by which neighbours are left out. Default false. */
  ids?: boolean;
  /** The type that embeddings are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default `'cpu'`. */
  device?: Device;
  /** Makes every rank's bank the same. Default: this rank's embeddings alone. */
  gather?: GatherRows;
}

/** Neighbours of some queries, nearest first. */
export interface BankNeighbours {
  /** [N, k, D], as they are stored. */
  embeddings: Tensor;
  /** Cosines [N, k]; −∞ where fewer than k were allowed. */
  similarities: Tensor;
  /** Rows of the bank, int64 [N, k]. */
  rows: Tensor;
}

/**
 * The support set of NNCLR (Dwibedi, Aytar, Tompson, Sermanet and Zisserman 2021, "With a Little Help from My Friends: Nearest-Neighbor Contrastive
 * Learning of Visual Representations"): a queue of earlier embeddings among which each new one looks for its nearest, exactly, by cosine.
 *
 * ```ts
 * const loss = nnclr(first, second, bank.lookup, { predictions });
 * bank.enqueue(first);
 * ```
 *
 * The search takes O(N · size · D) time and a few MB whatever the size. Nothing that it gives has a gradient. The bank starts empty: begin with
 * {@link NearestNeighbourBank.warmStart}, random directions as in solo-learn, or let the first batches in without a loss.
 *
 * For objectives whose positives shall differ by more than augmentation.
 */
export class NearestNeighbourBank extends RingMemory {
  constructor(options: NearestNeighbourBankOptions) {
    super(new RingBuffer({ size: 98304, ...options }, 'NearestNeighbourBank'));
  }

  /** Adds embeddings [N, D], as {@link RingBuffer.enqueue}. */
  enqueue(embeddings: Tensor, options: EntryOptions = {}): void {
    this.buffer.enqueue(embeddings, options);
  }

  /** Empties the bank and fills it, as {@link RingBuffer.warmStart}. */
  warmStart(embeddings: Tensor, options: EntryOptions = {}): void {
    this.buffer.warmStart(embeddings, options);
  }

  /** The nearest of each of [N, D], [N, D]: what `nnclr` takes as its support. */
  readonly lookup = (embeddings: Tensor): Tensor => {
    const { embeddings: found } = this.nearest(embeddings);
    return found.squeeze(1);
  };

  /**
   * The k nearest of each query by cosine; of equal ones any.
   *
   * @param queries [N, D] of any floating-point dtype
   * @param options `k`: default 1; `ids` int64 [N]: entries with a query's id are not found for it
   * @throws InvalidArgumentError if the bank is empty or has fewer than k entries, or something does not fit
   */
  nearest(queries: Tensor, { k = 1, ids }: { k?: number; ids?: Tensor } = {}): BankNeighbours {
    const what = 'NearestNeighbourBank';
    const buffer = this.buffer;
    checkRows(queries, buffer.dimension, buffer.device, what, 'queries');
    integerFrom(1, k, `${what}: k`);
    if (k > buffer.filled) {
      throw new InvalidArgumentError(
        `${what}: ${k} neighbours were asked for, and it holds ${buffer.filled}; fill it first, with warmStart or enqueue`,
      );
    }
    if (queries.sizeOf(0) === 0) throw new InvalidArgumentError(`${what}: there are no queries`);
    if (ids !== undefined) {
      checkColumn(ids, [queries.sizeOf(0)], 'int64', buffer.device, what, 'ids');
    }
    const own = ids === undefined ? undefined : buffer.ids();
    return noGrad(() =>
      scope(() => {
        const { similarities, rows } = nearestRows(queries.detach(), buffer.parts(PART), k, (tile, part) =>
          ids === undefined
            ? null
            : ids
                .narrow(0, tile.from, tile.count)
                .unsqueeze(1)
                .eq(own!.narrow(0, part.start, part.count).unsqueeze(0)),
        );
        const embeddings = buffer.rows(rows.flatten()).view([queries.sizeOf(0), k, buffer.dimension]);
        return { embeddings, similarities, rows };
      }),
    );
  }
}
