/** `torch`: LibTorch's operators as functions, and tensors from JavaScript's data. */
import { InvalidArgumentError } from './errors';
import { makeAsyncFunctions, type AsyncFunctions } from './async-functions';
import { memory } from './devices';
import { setPrintOptions } from './format';
import { callOperator } from './frame';
import { fromMemory } from './from-memory';
import type { TorchFunctions } from './functions.generated';
import { camelCase, unpackNames } from './names';
import { debugLiveTensors } from './live-tensors';
import { functionNames } from './names.generated';
import { native } from './native';
import { Tensor } from './tensor';
import { dtypeOfArray, flatten, packElements } from './typed-arrays';
import type { Device, DType, NestedArray, Scalar, TensorOptions, TypedArray } from './types';

/** Options of {@link FromData.tensor}. */
export interface FromDataOptions {
  /** Default: float32 for numbers, int64 for bigints, bool for booleans, the array's own for typed arrays. */
  dtype?: DType;
  /** Default: `'cpu'`. */
  device?: Device;
  /** Default: false. */
  requiresGrad?: boolean;
}

/** Options of {@link FromData.fromTypedArray}. */
export interface FromTypedArrayOptions extends FromDataOptions {
  /**
   * Whether the tensor gets memory of its own. Without, it shares the array's, and each sees what the other writes; the array
   * lives as long as the tensor. Its buffer must then be neither resizable nor transferred (`structuredClone` or `postMessage`
   * with a transfer list, `transfer()`): that would take the memory from under the tensor. Default: true.
   */
  copy?: boolean;
}

/** Tensors from JavaScript's data. */
export interface FromData {
  /**
   * A tensor from a number, nested arrays or a typed array.
   *
   * @throws InvalidArgumentError for ragged arrays, arrays that mix kinds or hold anything else than numbers, bigints and
   *   booleans, and numbers that the dtype cannot hold
   */
  tensor(data: NestedArray | TypedArray, options?: FromDataOptions): Tensor;
  /**
   * A tensor of this shape over a typed array's elements. A `Uint16Array` with dtype `'float16'` or `'bfloat16'` holds raw bits, a
   * `Float32Array` with dtype `'complex64'` pairs.
   *
   * @throws InvalidArgumentError if the shape does not fit the array's length
   */
  fromTypedArray(array: TypedArray, shape?: readonly number[], options?: FromTypedArrayOptions): Tensor;
  /** A tensor of this shape and dtype over a copy of raw bytes. */
  fromBytes(bytes: Uint8Array, shape: readonly number[], dtype: DType): Tensor;
}

/** What `torch` has besides operators. */
export interface TorchTools {
  /** The operators beside the event loop. */
  readonly async: AsyncFunctions;
  /** Sets how tensors become text: the exported {@link setPrintOptions}. */
  readonly setPrintOptions: typeof setPrintOptions;
  /** What tensors take now: the exported {@link memory}. */
  readonly memory: typeof memory;
  /** Every tensor that JavaScript holds: the exported {@link debugLiveTensors}. */
  readonly debugLiveTensors: typeof debugLiveTensors;
}

/** Everything under `torch`. */
export type Torch = TorchFunctions & FromData & TorchTools;

function checkShape(shape: readonly number[]): void {
  if (!Array.isArray(shape)) throw new InvalidArgumentError(`a shape is an array of sizes, not ${String(shape)}`);
  for (const size of shape as readonly unknown[]) {
    if (!Number.isSafeInteger(size) || (size as number) < 0) {
      throw new InvalidArgumentError(`a shape holds whole numbers from 0, not ${String(size)}`);
    }
  }
}

function isResizable(buffer: ArrayBufferLike): boolean {
  const { resizable, growable } = buffer as { resizable?: boolean; growable?: boolean };
  return resizable === true || growable === true;
}

function checkedFromMemory(array: ArrayBufferView, shape: readonly number[], dtype: DType, copy: boolean): Tensor {
  checkShape(shape);
  if (!copy && isResizable(array.buffer)) {
    throw new InvalidArgumentError('a buffer that can change its size cannot back a tensor without a copy');
  }
  return fromMemory(array, shape, dtype, !copy);
}

const bitPatterns = new Set<DType>(['float16', 'bfloat16']);
const complexOf = new Map<DType, DType>([
  ['complex64', 'float32'],
  ['complex128', 'float64'],
]);

/** Whether an array's memory can be taken as this dtype without conversion. */
function holdsDType(array: TypedArray, dtype: DType): boolean {
  const own = dtypeOfArray(array);
  if (own === dtype) return true;
  if (own === 'uint16' && bitPatterns.has(dtype)) return true;
  if (own === 'uint8' && (dtype === 'bool' || dtype.startsWith('float8'))) return true;
  return complexOf.get(dtype) === own;
}

function finish(made: Tensor, dtype: DType, options: FromDataOptions): Tensor {
  const { device = 'cpu', requiresGrad = false } = options;
  let tensor = made;
  if (dtype !== made.dtype || device !== 'cpu') {
    tensor = made.to({ dtype, device });
    made.dispose();
  }
  return requiresGrad ? tensor.requiresGrad_() : tensor;
}

function fromTypedArray(array: TypedArray, shape?: readonly number[], options: FromTypedArrayOptions = {}): Tensor {
  const own = dtypeOfArray(array);
  const { dtype = own, copy = true } = options;
  const direct = holdsDType(array, dtype);
  if (!direct && !copy) {
    throw new InvalidArgumentError(`an array of ${own} cannot back a tensor of ${dtype} without a copy`);
  }
  const sizes = shape ?? (complexOf.has(dtype) ? [array.length / 2] : [array.length]);
  return finish(checkedFromMemory(array, sizes, direct ? dtype : own, copy), dtype, options);
}

function tensor(data: NestedArray | TypedArray, options: FromDataOptions = {}): Tensor {
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, undefined, options);
  const { shape, elements } = flatten(data);
  const { dtype } = options;
  const { array, own } = packElements(elements, dtype);
  return finish(checkedFromMemory(array, shape, own, true), dtype ?? own, options);
}

function attachOperators(): Record<string, unknown> {
  const target: Record<string, unknown> = {};
  for (const name of unpackNames(functionNames)) {
    let index = -1;
    target[camelCase(name)] = (...given: unknown[]): unknown => {
      if (index < 0) index = native.operator(`aten::${name}`);
      return callOperator(index, undefined, given);
    };
  }
  return target;
}

const operators = attachOperators() as unknown as TorchFunctions;
const { full: fullOperator } = operators;

function full(
  size: readonly number[],
  value: Scalar | (TensorOptions & { fillValue: Scalar }),
  options: TensorOptions = {},
): Tensor {
  if (Object.hasOwn(Object(value) as object, 'fillValue')) {
    const { fillValue, ...others } = value as TensorOptions & { fillValue: Scalar };
    return full(size, fillValue, others);
  }
  const isNumber = typeof value === 'number' && !options.dtype;
  return fullOperator(size, value as Scalar, isNumber ? { ...options, dtype: 'float32' } : options);
}

let asyncFunctions: AsyncFunctions | undefined;

/**
 * LibTorch's operators as functions, `torch.cat([a, b])`, with keyword arguments in a last options object:
 * `torch.zeros([2, 3], { dtype: 'float64' })`.
 *
 * One deviation: `torch.full([2], 1)` makes float32 for every number, since JavaScript does not tell 1 from 1.0.
 */
export const torch: Torch = Object.defineProperties(
  Object.assign(operators, {
    tensor,
    fromTypedArray,
    fromBytes: (bytes: Uint8Array, shape: readonly number[], dtype: DType): Tensor =>
      checkedFromMemory(bytes, shape, dtype, true),
    full,
    setPrintOptions,
    memory,
    debugLiveTensors,
  }),
  // Made when first asked for: most programs never do.
  { async: { get: () => (asyncFunctions ??= makeAsyncFunctions()), enumerable: true } },
) as Torch;
