import { InvalidArgumentError, keep, noGrad, scope, torch, type DType, type Device, type Tensor } from '../torch';
import { jsonNumber, jsonObject, type StateDict, type Stateful } from '../torch/state';
import { integerFrom, positiveInteger } from '../nn/checks';

/** What a {@link Queue} is made from. */
export interface QueueOptions {
  /** How many keys it holds. */
  size: number;
  /** The size D of a key. */
  dimension: number;
  /** The floating-point type that keys are held in. Default `'float32'`. */
  dtype?: DType;
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * The newest keys of past batches, first in, first out: the dictionary of momentum contrast (He et al. 2020). A ring buffer: new
 * keys overwrite the oldest, in any batch size up to the size of the queue.
 */
export class Queue implements Stateful {
  readonly size: number;
  readonly dimension: number;
  readonly #keys: Tensor;
  #pointer = 0;
  #filled = 0;

  constructor(options: QueueOptions) {
    const { dtype = 'float32', device = 'cpu' } = options;
    this.size = positiveInteger(options.size, 'Queue: size');
    this.dimension = positiveInteger(options.dimension, 'Queue: dimension');
    this.#keys = keep(torch.zeros([this.size, this.dimension], { dtype, device }));
    if (!this.#keys.isFloatingPoint()) {
      throw new InvalidArgumentError(`Queue: keys need a floating-point dtype, found ${dtype}`);
    }
  }

  /** How many keys it holds now. */
  get filled(): number {
    return this.#filled;
  }

  /** The row that the next key goes to. */
  get pointer(): number {
    return this.#pointer;
  }

  /** The type that keys are held in. */
  get dtype(): DType {
    return this.#keys.dtype;
  }

  /** Where the keys are. */
  get device(): Device {
    return this.#keys.device;
  }

  /**
   * Adds keys, overwriting the oldest ones when there is no more room.
   *
   * @param keys [N, D] of any floating-point dtype, on the queue's device, with N at most the queue's size; values are copied,
   * without gradients
   * @throws InvalidArgumentError naming both numbers when the batch is larger than the queue, or the shapes, dtypes or
   * devices that do not fit, before anything changes
   */
  enqueue(keys: Tensor): void {
    const found = `[${keys.shape.join(', ')}]`;
    if (keys.ndim !== 2 || keys.shape[1] !== this.dimension) {
      throw new InvalidArgumentError(`Queue: expected keys of shape [N, ${this.dimension}], found ${found}`);
    }
    const count = keys.sizeOf(0);
    if (count > this.size) {
      throw new InvalidArgumentError(
        `Queue: a batch of ${count} keys is larger than the queue of ${this.size}; use a larger queue or a smaller batch`,
      );
    }
    if (!keys.isFloatingPoint()) {
      throw new InvalidArgumentError(`Queue: keys need a floating-point dtype, found ${keys.dtype}`);
    }
    if (keys.device !== this.device) {
      throw new InvalidArgumentError(`Queue: the queue is on ${this.device}, the keys are on ${keys.device}`);
    }
    const untilEnd = Math.min(count, this.size - this.#pointer);
    noGrad(() => {
      scope(() => {
        this.#keys.narrow(0, this.#pointer, untilEnd).copy_(keys.narrow(0, 0, untilEnd));
        if (count > untilEnd) {
          this.#keys.narrow(0, 0, count - untilEnd).copy_(keys.narrow(0, untilEnd, count - untilEnd));
        }
      });
    });
    this.#pointer = (this.#pointer + count) % this.size;
    this.#filled = Math.min(this.size, this.#filled + count);
  }

  /**
   * The keys that are there: a view [filled, D], not a copy, in the order of the buffer, which after a wrap-around is not
   * that of age. A later {@link Queue.enqueue} changes it: clone it if autograd needs it until after that.
   */
  entries(): Tensor {
    return this.#keys.narrow(0, 0, this.#filled);
  }

  /** Empties the queue. */
  clear(): void {
    this.#pointer = 0;
    this.#filled = 0;
  }

  /** Moves the keys, or converts them to another floating-point type. */
  to(options: { device?: Device; dtype?: DType }): this {
    const { device = this.device, dtype = this.dtype } = options;
    const moved = this.#keys.to({ device, dtype });
    if (!moved.isFloatingPoint()) {
      throw new InvalidArgumentError(`Queue: keys need a floating-point dtype, found ${dtype}`);
    }
    this.#keys.setData(moved);
    return this;
  }

  /** The whole buffer as `keys`, and where it stands. */
  stateDict(): StateDict {
    const values = { size: this.size, dimension: this.dimension, filled: this.#filled, pointer: this.#pointer };
    return { tensors: new Map([['keys', this.#keys.detach()]]), values };
  }

  /** @throws InvalidArgumentError what {@link Queue.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  loadStateDict(state: StateDict): void {
    const { keys, filled, pointer } = this.#checked(state);
    noGrad(() => this.#keys.copy_(keys).dispose());
    this.#filled = filled;
    this.#pointer = pointer;
  }

  /** Frees the keys now; the queue is of no use afterwards. */
  dispose(): void {
    this.#keys.dispose();
  }

  #checked(state: StateDict): { keys: Tensor; filled: number; pointer: number } {
    const what = 'Queue: the state dict';
    const values = jsonObject(state.values, what);
    const keys = state.tensors.get('keys');
    if (keys?.shape.join() !== this.#keys.shape.join()) {
      throw new InvalidArgumentError(
        `${what} must hold 'keys' of shape [${this.size}, ${this.dimension}], found ` +
          (keys === undefined ? 'none' : `[${keys.shape.join(', ')}]`),
      );
    }
    const filled = integerFrom(0, jsonNumber(values, 'filled', what), `${what}: filled`);
    const pointer = integerFrom(0, jsonNumber(values, 'pointer', what), `${what}: pointer`);
    if (filled > this.size || pointer >= this.size || (filled < this.size && pointer !== filled)) {
      throw new InvalidArgumentError(
        `${what}: filled ${filled} and pointer ${pointer} do not fit a queue of ${this.size}`,
      );
    }
    return { keys: keys!, filled, pointer };
  }
}
