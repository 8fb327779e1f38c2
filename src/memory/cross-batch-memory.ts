import { InvalidArgumentError, noGrad, torch, type Device, type Tensor } from '../torch';
import type { StateDict } from '../torch/state';
import { checkRows, stateCount, stateValues } from './checks';
import { RingBuffer, type ColumnSpec, type GatherRows, type MemoryCandidates } from './ring-buffer';
import type { StoredDType } from './stored';
import { RingMemory } from './ring-memory';

/** What a {@link CrossBatchMemory} is made from. */
export interface CrossBatchMemoryOptions {
  /** How many embeddings it holds. */
  size: number;
  /** The size D of an embedding. */
  dimension: number;
  /**
   * Where ids come from: `'counted'` (default): every embedding gets the next number, so that just a batch's own copies are left out; `'given'`: the
   * caller's, such as the samples' numbers in the data set, so that copies of a sample from earlier epochs are left out as well.
   */
  ids?: 'counted' | 'given';
  /** The type that embeddings are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default `'cpu'`. */
  device?: Device;
  /** Further columns by name, such as the domain of a sample. Default: none. */
  columns?: Readonly<Record<string, ColumnSpec>>;
  /** Makes every rank's memory the same. Needs given ids, which differ between ranks. Default: this rank's entries alone. */
  gather?: GatherRows;
}

/**
 * Cross-batch memory, XBM (Wang, Zhang, Huang and Scott 2020, "Cross-Batch Memory for Embedding Learning"): embeddings of past batches with
 * their labels, as further positives and negatives for any objective that goes by labels. It rests on embeddings drifting slowly, so
 * the paper trains without it first, for 1,000 iterations if memory serves: that number was not checked against it.
 *
 * ```ts
 * const ids = memory.enqueue(embeddings, labels);
 * const loss = contrast({ anchors: embeddings, labels, ids, candidates: memory.candidates() });
 * ```
 *
 * The batch enters first and the loss is taken against the memory alone, which then holds the batch without gradients: the order of the paper's
 * pseudocode, from memory and not checked. An anchor's own copy does not count: it has the anchor's id. No gradient flows into the memory. A batch
 * larger than the memory leaves its last `size` embeddings.
 *
 * For supervised metric learning whose batch is too small to hold hard pairs.
 */
export class CrossBatchMemory extends RingMemory {
  readonly #counts: boolean;

  constructor(options: CrossBatchMemoryOptions) {
    const { ids = 'counted', ...rest } = options;
    const counts = ids === 'counted';
    if (counts && rest.gather !== undefined) {
      throw new InvalidArgumentError("CrossBatchMemory: ranks that gather need ids: 'given', each sample's own number");
    }
    super(new RingBuffer({ ...rest, labels: true, ids: true }, 'CrossBatchMemory'));
    this.#counts = counts;
  }

  /**
   * Adds a batch.
   *
   * @param embeddings [N, D] of any floating-point dtype; values are copied, without gradients
   * @param labels int64 [N]
   * @param options `ids` int64 [N] if the memory was made for given ones; `columns` by name; `mask` bool [N], which rows enter
   * @returns the ids of the batch, int64 [N]: give them to the anchors
   * @throws InvalidArgumentError if anything is missing, too much, or does not fit, before anything changes
   */
  enqueue(
    embeddings: Tensor,
    labels: Tensor,
    options: { ids?: Tensor; columns?: Readonly<Record<string, Tensor>>; mask?: Tensor } = {},
  ): Tensor {
    const { ids: given, ...rest } = options;
    if ((given !== undefined) === this.#counts) {
      throw new InvalidArgumentError(
        this.#counts
          ? "CrossBatchMemory: it counts ids itself; make it with ids: 'given' to give them"
          : 'CrossBatchMemory: every embedding needs an id, int64 [N]',
      );
    }
    checkRows(embeddings, this.buffer.dimension, this.buffer.device, 'CrossBatchMemory', 'embeddings');
    // Of one number per row that was ever offered: rows that a mask leaves out have ids too.
    const first = this.#offered;
    const ids =
      given ??
      noGrad(() => torch.arange(first, first + embeddings.sizeOf(0), { dtype: 'int64', device: this.buffer.device }));
    this.buffer.enqueue(embeddings, { labels, ids, ...rest });
    if (this.#counts) this.#offered = first + embeddings.sizeOf(0);
    return ids;
  }

  /** How many ids were counted out. */
  #offered = 0;

  /** The embeddings with labels and ids, as `contrast` takes them. See {@link RingBuffer.candidates} for `copy`. */
  candidates(options: { copy?: boolean } = {}): MemoryCandidates {
    return this.buffer.candidates(options);
  }

  override stateDict(): StateDict {
    const { tensors, values } = this.buffer.stateDict();
    return { tensors, values: { buffer: values, offered: this.#offered, ids: this.#ids } };
  }

  override checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  override loadStateDict(state: StateDict): void {
    const { buffer, offered } = this.#checked(state);
    this.buffer.loadStateDict(buffer);
    this.#offered = offered;
  }

  get #ids(): string {
    return this.#counts ? 'counted' : 'given';
  }

  #checked(state: StateDict): { buffer: StateDict; offered: number } {
    const what = 'CrossBatchMemory: the state dict';
    const values = stateValues(state, { ids: this.#ids }, what);
    const offered = stateCount(values, 'offered', what);
    const buffer = { tensors: state.tensors, values: values.buffer ?? null };
    this.buffer.checkStateDict(buffer);
    return { buffer, offered };
  }
}
