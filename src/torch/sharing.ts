/** Tensors between threads, without a copy. */
import { InvalidArgumentError } from './errors';
import { wrap } from './frame';
import { TensorHandle } from './handle';
import { native } from './native';
import type { Tensor } from './tensor';

/** Stands for a tensor on its way to another thread; `postMessage` and `workerData` take it as it is. */
export interface TensorToken {
  readonly kontrastTensor: number;
}

/** Options of {@link shareTensor}. */
export interface ShareOptions {
  /** How many times it may be received. Default: 1. */
  receipts?: number;
}

/**
 * Keeps a tensor for another thread of this process and gives a token for it. Both threads then hold one tensor: what one writes,
 * the other reads, and it lives until both have let go of it. Nothing is copied, except where the memory is that of a JavaScript array
 * (`copy: false`), which belongs to its own thread. LibTorch does not order what threads do to one tensor: that is up to messages between
 * them.
 *
 * ```ts
 * worker.postMessage({ weights: shareTensor(weights) });
 * // in the worker
 * parentPort.once('message', ({ weights }) => receiveTensor(weights).add_(1));
 * ```
 *
 * @throws InvalidArgumentError if the tensor has a graph; share `x.detach()` then
 */
export function shareTensor(tensor: Tensor, options: ShareOptions = {}): TensorToken {
  const { receipts = 1 } = options;
  if (!(tensor instanceof TensorHandle)) throw new InvalidArgumentError('shareTensor takes a tensor');
  if (!Number.isInteger(receipts) || receipts < 1 || receipts >= 2 ** 32) {
    throw new InvalidArgumentError(`receipts must be a whole number from 1, not ${String(receipts)}`);
  }
  return { kontrastTensor: native.share(tensor.handle, receipts) };
}

function numberOf(token: TensorToken): number {
  const number = (token as TensorToken | null | undefined)?.kontrastTensor;
  if (!Number.isSafeInteger(number)) throw new InvalidArgumentError('this is no token that shareTensor gave');
  return number!;
}

/**
 * The tensor that a token stands for.
 *
 * @throws DisposedError if it was received as often as it was shared for, or withdrawn
 */
export function receiveTensor(token: TensorToken): Tensor {
  return wrap(native.receive(numberOf(token))) as Tensor;
}

/** Gives up a token that nobody will receive, as when a worker has ended. Says whether it was still waiting. */
export function withdrawTensor(token: TensorToken): boolean {
  return native.withdraw(numberOf(token));
}
