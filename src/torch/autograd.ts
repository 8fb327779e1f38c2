/** Gradients as values, and the modes that decide what is recorded. */
import { inspect } from 'node:util';
import { DisposedError, InvalidArgumentError } from './errors';
import { wrap } from './frame';
import { TensorHandle } from './handle';
import { native } from './native';
import type { Tensor } from './tensor';
import { dtypeCode } from './typed-arrays';
import type { DType } from './types';

/** Options of {@link grad}. */
export interface GradOptions {
  /** The gradients of something with respect to each output; may be left out for single elements. */
  gradOutputs?: readonly (Tensor | null)[];
  /** Keep the graph for another pass. Default: the value of `createGraph`. */
  retainGraph?: boolean;
  /** Record the pass itself, for gradients of gradients. Default: false. */
  createGraph?: boolean;
  /** Give null for inputs that the outputs do not depend on, instead of an error. Default: false. */
  allowUnused?: boolean;
}

function handleOf(tensor: Tensor | null): number {
  if (tensor === null) return 0;
  if (!(tensor instanceof TensorHandle))
    throw new InvalidArgumentError(`grad() takes tensors, not ${inspect(tensor, { depth: 0 })}`);
  if (tensor.handle === 0) throw new DisposedError('a tensor given to grad() was disposed');
  return tensor.handle;
}

/**
 * The gradients of the sum of `outputs` (weighted by `gradOutputs`) with respect to each of `inputs`. Nothing accumulates in `grad`.
 *
 * @throws TorchError if an output depends on no input, unless `allowUnused`
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  const { gradOutputs = [], retainGraph, createGraph = false, allowUnused = false } = options;
  const list = (tensors: Tensor | readonly Tensor[]): number[] =>
    (Array.isArray(tensors) ? (tensors as readonly Tensor[]) : [tensors as Tensor]).map(handleOf);
  return native
    .grad(list(outputs), list(inputs), gradOutputs.map(handleOf), retainGraph, createGraph, allowUnused)
    .map((handle) => (handle === 0 ? null : (wrap(handle) as Tensor)));
}

/**
 * The result of a callback, refused if it is a promise. Modes belong to the thread, so they can only span synchronous code:
 * after an `await` other tasks would run under them.
 *
 * @internal
 */
export function synchronous<T>(name: string, result: T): T {
  if (typeof result === 'object' && result !== null && typeof (result as { then?: unknown }).then === 'function') {
    // Nobody will wait for it any more: its own failure, if it comes, is not a second error.
    Promise.resolve(result).catch(() => undefined);
    throw new InvalidArgumentError(`${name} takes a synchronous callback; call it inside the async function instead`);
  }
  return result;
}

function withGradEnabled<T>(name: string, on: boolean, body: () => T): T {
  const before = native.isGradEnabled();
  native.setGradEnabled(on);
  try {
    return synchronous(name, body());
  } finally {
    native.setGradEnabled(before);
  }
}

/** Runs synchronous code without recording a graph. */
export function noGrad<T>(body: () => T): T {
  return withGradEnabled('noGrad', false, body);
}

/** Runs synchronous code with recording on, inside {@link noGrad}. */
export function enableGrad<T>(body: () => T): T {
  return withGradEnabled('enableGrad', true, body);
}

/**
 * Runs synchronous code in LibTorch's inference mode: quicker than {@link noGrad}, and what is made there can never take part in
 * autograd.
 */
export function inferenceMode<T>(body: () => T): T {
  native.enterInferenceMode();
  try {
    return synchronous('inferenceMode', body());
  } finally {
    native.leaveInferenceMode();
  }
}

/** Whether operators record a graph here. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled();
}

/** Whether inference mode is on here. */
export function isInferenceMode(): boolean {
  return native.isInferenceMode();
}

/** Options of {@link autocast}. */
export interface AutocastOptions {
  /** The device whose operators are concerned. Default: `'cpu'`. */
  device?: 'cpu' | 'cuda' | (string & {});
  /** The type that operators which gain from it run in. Default: `'bfloat16'`. */
  dtype?: Extract<DType, 'bfloat16' | 'float16'>;
  /** Default: true. */
  enabled?: boolean;
}

/**
 * Runs synchronous code with automatic mixed precision: matrix products and convolutions run in the lower precision, operators
 * that need it in float32, as LibTorch's lists say. Backward passes belong outside.
 */
export function autocast<T>(options: AutocastOptions, body: () => T): T {
  if (typeof body !== 'function') {
    throw new InvalidArgumentError('autocast takes options and a callback: autocast({}, () => ...)');
  }
  const { device = 'cpu', dtype = 'bfloat16', enabled = true } = options;
  const [wasEnabled, oldDType] = native.autocastState(device);
  native.enterAutocast(device, enabled, dtypeCode(dtype));
  try {
    return synchronous('autocast', body());
  } finally {
    native.leaveAutocast(device, wasEnabled, oldDType);
  }
}

/** @internal Runs synchronous code without autocast on the device of `like`, for what would lose too much in a shorter type. */
export function withoutAutocast<T>(like: Tensor, body: () => T): T {
  return autocast({ device: like.device === 'cpu' ? 'cpu' : 'cuda', enabled: false }, body);
}
