import { InvalidArgumentError, type Device, type Tensor } from '../torch';
import type { StateDict } from '../torch/state';
import { RingBuffer, type EntryOrder, type GatherRows, type MemoryCandidates } from './ring-buffer';
import type { StoredDType } from './stored';
import { RingMemory } from './ring-memory';

/** What a {@link Queue} is made from. */
export interface QueueOptions {
  /** How many keys it holds. */
  size: number;
  /** The size D of a key. */
  dimension: number;
  /** The type that keys are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default `'cpu'`. */
  device?: Device;
  /** Makes every rank's queue the same: gives the keys of all ranks, in the order of ranks. Default: this rank's keys alone. */
  gather?: GatherRows;
}

/**
 * The newest keys of past batches, first in, first out: the dictionary of momentum contrast (He et al. 2020, "Momentum Contrast for Unsupervised
 * Visual Representation Learning"). New keys overwrite the oldest, in any batch size up to the size of the queue. A larger batch is an error,
 * since keys would leave before they were ever compared with; the {@link RingBuffer} beneath takes it.
 *
 * It starts empty; the paper's code starts it with random directions: `warmStart(functional.normalize(torch.randn([size, dimension])))`.
 */
export class Queue extends RingMemory {
  constructor(options: QueueOptions) {
    const { size, dimension, dtype, device, gather } = options;
    super(new RingBuffer({ size, dimension, dtype, device, gather }, 'Queue'));
  }

  get size(): number {
    return this.buffer.size;
  }

  get dimension(): number {
    return this.buffer.dimension;
  }

  /** The row that the next key goes to. */
  get pointer(): number {
    return this.buffer.pointer;
  }

  /** How many keys were ever enqueued, since it was made or cleared. */
  get total(): number {
    return this.buffer.total;
  }

  /** The type that keys are held in. */
  get dtype(): StoredDType {
    return this.buffer.dtype;
  }

  /** Where the keys are. */
  get device(): Device {
    return this.buffer.device;
  }

  /**
   * Adds keys, overwriting the oldest ones when there is no more room.
   *
   * @param keys [N, D] of any floating-point dtype, on the queue's device, with N (of all ranks together) at most the queue's size; values are
   * copied, without gradients
   * @param options `mask`: bool [N], which keys enter; default all
   * @throws InvalidArgumentError naming both numbers when the batch is larger than the queue, or the shapes, dtypes or
   * devices that do not fit, before anything changes
   */
  enqueue(keys: Tensor, options: { mask?: Tensor } = {}): void {
    this.buffer.enqueueAtMost(this.size, keys, options);
  }

  /** Empties the queue and fills it with these keys, the oldest first; of more than its size the last. Nothing is gathered. */
  warmStart(keys: Tensor): void {
    this.buffer.warmStart(keys);
  }

  /**
   * The keys that are there: a view [filled, D], not a copy, in the order of the buffer, which after a wrap-around is not
   * that of age. A later {@link Queue.enqueue} changes it: clone it if autograd needs it until after that. For int8 it is a copy in float32.
   *
   * @param order `'age'`: the oldest first, which may be a copy
   */
  entries(order: EntryOrder = 'buffer'): Tensor {
    return this.buffer.entries(order);
  }

  /** How old the keys are, int64 [filled], the newest 0: in enqueues (default) or in keys. */
  ages(unit: 'enqueues' | 'entries' = 'enqueues', order: EntryOrder = 'buffer'): Tensor {
    return this.buffer.ages(unit, order);
  }

  /** The keys as `contrast` takes them: negatives of every anchor. See {@link RingBuffer.candidates} for `copy`. */
  candidates(options: { copy?: boolean } = {}): MemoryCandidates {
    return this.buffer.candidates(options);
  }

  /** The whole buffer as `keys`, when each came in, and where it stands. */
  override stateDict(): StateDict {
    const { tensors, values } = this.buffer.stateDict();
    return { tensors: renamed(tensors, 'embeddings', 'keys'), values };
  }

  override checkStateDict(state: StateDict): void {
    this.buffer.checkStateDict(this.#own(state));
  }

  override loadStateDict(state: StateDict): void {
    this.buffer.loadStateDict(this.#own(state));
  }

  #own(state: StateDict): StateDict {
    const keys = state.tensors.get('keys');
    const { size, dimension } = this;
    if (keys?.shape.join() !== [size, dimension].join()) {
      throw new InvalidArgumentError(
        `Queue: the state dict must hold 'keys' of shape [${size}, ${dimension}], found ` +
          (keys === undefined ? 'none' : `[${keys.shape.join(', ')}]`),
      );
    }
    return { tensors: renamed(state.tensors, 'keys', 'embeddings'), values: state.values };
  }
}

function renamed(tensors: Map<string, Tensor>, from: string, to: string): Map<string, Tensor> {
  return new Map([...tensors].map(([name, tensor]) => [name === from ? to : name, tensor]));
}
