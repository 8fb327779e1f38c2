/// <reference lib="esnext.disposable" preserve="true" />
/// <reference types="node" preserve="true" />
import { inspect, type InspectOptions } from 'node:util';
import { DisposedError, InvalidArgumentError, TorchError } from './errors';
import { callOperator, callPlainly, callWithList, setTensorFactory, wrap } from './frame';
import { pool } from './frame-memory';
import { TensorHandle } from './handle';
import { addHook, setAccumulationHook, type GradientHook, type Hook } from './hooks';
import { readAt, writeAt, type IndexItem, type IndexValue } from './indexing';
import { methodNames } from './names.generated';
import { camelCase, unpackNames } from './names';
import { lazyOperator } from './lazy-operator';
import { native } from './native';
import { formatMember, formatTensor, summarizeTensor, tensorToJson } from './format';
import { collectLater, release } from './scope';
import type { JsonValue } from './state';
import type { TensorMethods } from './tensor-methods.generated';
import {
  dtypeNames,
  memoryFormatNames,
  layoutNames,
  type Device,
  type DType,
  type Layout,
  type MemoryFormat,
  type NestedArray,
  type TypedArray,
} from './types';
import { nest, viewBuffer } from './typed-arrays';

/** What {@link Tensor.backward} takes besides the gradient. */
export interface BackwardOptions {
  /** Keep the graph for another backward pass. Default: the value of `createGraph`. */
  retainGraph?: boolean;
  /** Record the backward pass itself, for gradients of gradients. Default: false. */
  createGraph?: boolean;
  /** Accumulate into these tensors only. Default: every leaf that took part. */
  inputs?: readonly Tensor[];
}

/** What {@link Tensor.to} can change. */
export interface ToOptions {
  dtype?: DType;
  device?: Device;
  /** Let copies between pinned memory and a CUDA device run while other work goes on. Default: false. */
  nonBlocking?: boolean;
  /** Copy also when nothing changes. Default: false. */
  copy?: boolean;
  memoryFormat?: MemoryFormat;
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-empty-object-type
export interface Tensor extends TensorMethods {}

/**
 * A LibTorch tensor. Every operator of LibTorch whose first argument is a tensor is a method, named in camelCase, with
 * keyword arguments in a last options object: `x.sum([1], { keepdim: true })`. Names that end in an underscore change the tensor in place.
 *
 * A tensor is freed by the {@link scope} that it was made in, by {@link Tensor.dispose}, or, outside any scope, by garbage collection.
 */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class Tensor extends TensorHandle {
  /** The size of each dimension. */
  get shape(): readonly number[] {
    return firstOfPool(native.shape(this.handle));
  }

  /** The distance in elements between neighbours along each dimension. */
  get strides(): readonly number[] {
    return firstOfPool(native.strides(this.handle));
  }

  /** How many dimensions there are. */
  get ndim(): number {
    return native.shape(this.handle);
  }

  /** The type of the elements. */
  get dtype(): DType {
    return dtypeNames[native.dtype(this.handle)]!;
  }

  /** Whether the elements are dense with strides, or in one of the sparse forms. */
  get layout(): Layout {
    return layoutNames[native.layout(this.handle)]!;
  }

  /**
   * Whether the elements lie one after another in the order of a memory format.
   *
   * @throws InvalidArgumentError for a format that is no order: `'preserve_format'`
   */
  isContiguous(memoryFormat: MemoryFormat = 'contiguous_format'): boolean {
    const format = memoryFormatNames.indexOf(memoryFormat);
    if (format < 0 || memoryFormat === 'preserve_format') {
      throw new InvalidArgumentError(`isContiguous: ${inspect(memoryFormat)} is no order of dimensions in memory`);
    }
    return native.isContiguous(this.handle, format);
  }

  /** Where the data lives. */
  get device(): Device {
    return native.device(this.handle) as Device;
  }

  /** How many elements there are. */
  numel(): number {
    return native.numel(this.handle);
  }

  /**
   * The size of one dimension; negative ones count from the end.
   *
   * @throws InvalidArgumentError if there is no such dimension
   */
  sizeOf(dimension: number): number {
    const { shape } = this;
    const size = shape[dimension < 0 ? dimension + shape.length : dimension];
    if (size === undefined) {
      throw new InvalidArgumentError(`dimension ${String(dimension)} does not exist in shape [${shape.join(', ')}]`);
    }
    return size;
  }

  /** Whether gradients flow to this tensor. Setting it is for leaves: results of operators follow their inputs. */
  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle);
  }

  set requiresGrad(on: boolean) {
    this.requiresGrad_(on);
  }

  /** Sets {@link Tensor.requiresGrad} and gives this tensor back. */
  requiresGrad_(on = true): this {
    if (typeof on !== 'boolean') throw new InvalidArgumentError(`requiresGrad is true or false, not ${inspect(on)}`);
    native.setRequiresGrad(this.handle, on);
    return this;
  }

  /** Whether no operator made this tensor from others that need gradients. Gradients accumulate in leaves. */
  get isLeaf(): boolean {
    return native.isLeaf(this.handle);
  }

  /** The name of the function by which gradients flow on from here, `'AddBackward0'`; null for a leaf. */
  get gradFn(): string | null {
    return native.gradientFunction(this.handle);
  }

  /** The accumulated gradient, or null. Each reading gives a new handle. Set it to null to clear it. */
  get grad(): Tensor | null {
    const handle = native.gradientOf(this.handle);
    return handle === 0 ? null : (wrap(handle) as Tensor);
  }

  set grad(gradient: Tensor | null) {
    native.setGradient(this.handle, gradient === null ? 0 : handleOf(gradient, 'the gradient to set'));
  }

  /**
   * Adds to each leaf's {@link Tensor.grad} the gradient of this tensor with respect to it.
   *
   * @param gradient - the gradient of something with respect to this tensor; may be left out for a single element, and is then 1
   * @throws TorchError if this tensor has several elements and no gradient is given, or needs no gradient
   */
  backward(gradient?: Tensor, options: BackwardOptions = {}): void {
    const { retainGraph, createGraph = false, inputs = [] } = options;
    native.backward(
      [this.handle],
      gradient === undefined ? [] : [handleOf(gradient, 'the gradient')],
      retainGraph,
      createGraph,
      inputs.map((input) => handleOf(input, 'an input')),
    );
  }

  /**
   * As {@link Tensor.backward}, beside the event loop. Passes that are started one after another run one after another. The tensors of the graph
   * must not be changed in place meanwhile.
   */
  backwardAsync(gradient?: Tensor, options: BackwardOptions = {}): Promise<void> {
    const { retainGraph, createGraph = false, inputs = [] } = options;
    return new Promise((resolve, reject) => {
      native.backwardAsync(
        [this.handle],
        gradient === undefined ? [] : [handleOf(gradient, 'the gradient')],
        retainGraph,
        createGraph,
        inputs.map((input) => handleOf(input, 'an input')),
        (error) => {
          if (error === undefined) resolve();
          else reject(error as Error);
        },
      );
    });
  }

  /**
   * Calls `hook` with the gradient of this tensor whenever a backward pass has worked it out; what it returns, if anything, takes the
   * gradient's place. The hook runs in a scope of its own: it has to {@link keep} what it wants to hold.
   */
  registerHook(hook: GradientHook): Hook {
    return addHook(this, hook);
  }

  /**
   * Calls `hook` with this leaf each time after a gradient was added to its {@link Tensor.grad}, for work such as stepping an
   * optimiser during the backward pass. A leaf has one such hook at most; null removes it.
   */
  setPostAccumulateGradHook(hook: ((leaf: Tensor) => void) | null): void {
    setAccumulationHook(this, hook);
  }

  /** The same data, outside the graph. */
  detach(): Tensor {
    return callOperator(detachOperator(), this, []) as Tensor;
  }

  /**
   * This tensor takes the other's storage, dtype and device, and stays the same variable: modules and optimisers that hold
   * it see the new data.
   */
  setData(other: Tensor): void {
    native.setData(this.handle, handleOf(other, 'the other'));
  }

  /** Whether both are handles of one tensor. */
  isSame(other: Tensor): boolean {
    return native.isSame(this.handle, handleOf(other, 'the other'));
  }

  /** Another dtype, another device, or both; itself, by a new handle, when nothing changes. */
  to(target: DType | Device | Tensor | ToOptions, options: ToOptions = {}): Tensor {
    if (target instanceof Tensor) return this.to({ dtype: target.dtype, device: target.device, ...options });
    if (typeof target !== 'string') return callOperator(toOperator(), this, [{ ...target, ...options }]) as Tensor;
    const isDType = (dtypeNames as readonly string[]).includes(target);
    return callOperator(toOperator(), this, [{ ...options, [isDType ? 'dtype' : 'device']: target }]) as Tensor;
  }

  /**
   * A copy of the elements, in row-major order. float16, bfloat16 and float8 are widened to `Float32Array`; bool is a `Uint8Array`
   * of 0 and 1; int64 a `BigInt64Array`; complex numbers are pairs. The event loop stays free meanwhile.
   */
  async data(): Promise<TypedArray> {
    const { dtype } = this;
    return viewBuffer(await native.readAsync(this.handle, true), dtype);
  }

  /** As {@link Tensor.data}, at once. */
  dataSync(): TypedArray {
    return viewBuffer(native.read(this.handle, true), this.dtype);
  }

  /** A copy of the elements' bytes as they are, in row-major order. */
  bytesSync(): Uint8Array {
    return new Uint8Array(native.read(this.handle, false));
  }

  /** The only element, as a number; booleans are 0 or 1. The event loop stays free meanwhile. See {@link Tensor.itemSync}. */
  async item(): Promise<number> {
    this.checkSingle();
    const { dtype } = this;
    const [element] = viewBuffer(await native.readAsync(this.handle, true), dtype);
    return toNumber(element!, dtype);
  }

  /**
   * The only element, as a number; booleans are 0 or 1.
   *
   * @throws InvalidArgumentError if there is not exactly one element, or an int64 is not exact as a number (read it with `dataSync()`)
   */
  itemSync(): number {
    this.checkSingle();
    return toNumber(native.item(this.handle), this.dtype);
  }

  private checkSingle(): void {
    if (this.numel() !== 1) {
      throw new InvalidArgumentError(`item() needs one element, and the shape is [${this.shape.join(', ')}]`);
    }
  }

  /** The elements as nested arrays, one level a dimension. */
  async toArray(): Promise<NestedArray> {
    const { shape, dtype } = this;
    return nest(await this.data(), shape, dtype);
  }

  /** As {@link Tensor.toArray}, at once. */
  toArraySync(): NestedArray {
    return nest(this.dataSync(), this.shape, this.dtype);
  }

  /**
   * A part of the tensor: an integer takes one entry of a dimension, {@link slice} a range, null adds a dimension, `'...'` stands for the
   * dimensions in between, positions (integer tensors, arrays) and masks (boolean ones) pick entries. See {@link IndexItem}.
   *
   * Integers, ranges, null and `'...'` alone give a view, which shares this tensor's memory; positions and masks give a copy.
   * Where positions and masks stand side by side, what they pick takes their place, else it becomes the first dimensions.
   *
   * @throws TorchIndexError if the index does not fit the shape
   */
  at(...index: IndexItem[]): Tensor {
    return readAt(this, index);
  }

  /**
   * Writes a value into the part that {@link Tensor.at} gives for the same index: `x.setAt_(7, slice(1, 5))` writes sevens into four
   * rows. Gradients flow to a value that is a tensor, and no longer to what was written over.
   *
   * @param value - a tensor, number, boolean, nested arrays or typed array, broadcast to the part and converted to this dtype. Under
   *   positions and masks a tensor must have this dtype already, unless it is a single element under one mask
   * @returns this tensor
   * @throws TorchIndexError if the index does not fit the shape, TorchError if the value does not fit the part
   */
  setAt_(value: IndexValue, ...index: IndexItem[]): this {
    writeAt(this, value, index, false);
    return this;
  }

  /**
   * Adds a value, as {@link Tensor.setAt_} takes it, to the part that {@link Tensor.at} gives for the same index. Positions that occur
   * several times are added to several times.
   */
  addAt_(value: IndexValue, ...index: IndexItem[]): this {
    writeAt(this, value, index, true);
    return this;
  }

  /** Frees this handle now. Autograd and other handles keep what they need. */
  dispose(): void {
    release(this);
  }

  /** Whether this handle was freed. */
  get isDisposed(): boolean {
    return this.handle === 0;
  }

  [Symbol.dispose](): void {
    release(this);
  }

  /** The tensor as PyTorch prints it, shortened in the middle when it is large. See {@link setPrintOptions}. */
  override toString(): string {
    return formatTensor(this);
  }

  [inspect.custom](depth: number, options: InspectOptions): unknown {
    if (depth < 0) return summarizeTensor(this);
    // At unlimited depth nothing tells a member from the object itself.
    if (depth === options.depth && Number.isFinite(depth)) return formatTensor(this);
    // Node indents the lines of what a custom object shows, not those of a string.
    return { [inspect.custom]: () => formatMember(this) };
  }

  /** The elements as nested arrays, for `JSON.stringify`. 64-bit integers beyond 2 ** 53 are strings, NaN and infinities null. */
  toJSON(): JsonValue {
    return tensorToJson(this);
  }

  /**
   * The entries along the first dimension, one after the other. All of them are views, made at the first step; those that a loop
   * never reaches are freed when it ends.
   *
   * @throws InvalidArgumentError if there are no dimensions
   */
  *[Symbol.iterator](): Generator<Tensor, void, undefined> {
    if (this.ndim === 0) {
      throw new InvalidArgumentError('a tensor of no dimensions has no entries to go through; read it with itemSync()');
    }
    const entries = this.unbind(0);
    let next = 0;
    try {
      while (next < entries.length) yield entries[next++]!;
    } finally {
      for (const entry of entries.slice(next)) entry.dispose();
    }
  }
}

/** Whether a value is a tensor. */
export function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

/**
 * A tensor that a scope never frees, as the base for subclasses: they pass the handle to `super` and call this.
 *
 * @internal
 */
export function keepNew(tensor: Tensor): void {
  collectLater(tensor);
}

/** A loop, since for a few numbers `Array.from` takes several times as long. */
function firstOfPool(count: number): number[] {
  const { values } = pool;
  const numbers = new Array<number>(count);
  for (let i = 0; i < count; i++) numbers[i] = values[i]!;
  return numbers;
}

/** The handle of an argument, which JavaScript may have filled with anything. */
function handleOf(tensor: Tensor, name: string): number {
  if (!isTensor(tensor))
    throw new InvalidArgumentError(`${name} must be a tensor, not ${inspect(tensor, { depth: 0 })}`);
  if (tensor.handle === 0) throw new DisposedError(`${name} was disposed`);
  return tensor.handle;
}

function toNumber(element: number | bigint | boolean, dtype: DType): number {
  if (dtype.startsWith('complex'))
    throw new TorchError('a complex tensor has no single number; read it with dataSync()');
  const number = Number(element);
  if (typeof element === 'bigint' && BigInt(number) !== element) {
    throw new InvalidArgumentError(`${String(element)} is not exact as a number; read it with dataSync()`);
  }
  return number;
}

const detachOperator = lazyOperator('aten::detach');
const toOperator = lazyOperator('aten::to.dtype_layout');

// What `new Tensor` makes. V8 makes objects of a derived class by a slower road, which a small operator's call can be seen to take.
const DirectlyMade = function (this: TensorHandle, handle: number) {
  this.handle = handle;
  this.owner = null;
} as unknown as new (handle: number) => Tensor;
DirectlyMade.prototype = Tensor.prototype;

setTensorFactory((handle) => new DirectlyMade(handle));

for (const name of unpackNames(methodNames)) {
  const method = camelCase(name);
  if (method in Tensor.prototype) continue;
  let index = -1;
  const call = function (this: Tensor, ...given: unknown[]): unknown {
    if (index < 0) index = native.operator(`aten::${name}`);
    return callOperator(index, this, given);
  };
  Object.defineProperty(Tensor.prototype, method, {
    // Not a rest parameter, for which V8 would make an array at every call.
    value: function (this: Tensor, first?: unknown, second?: unknown): unknown {
      if (index < 0) index = native.operator(`aten::${name}`);
      switch (arguments.length) {
        case 0:
          return callPlainly(index, this, undefined);
        case 1:
          if (first instanceof TensorHandle) return callPlainly(index, this, first);
          if (Array.isArray(first)) return callWithList(index, this, first);
          return callOperator(index, this, [first]);
        case 2:
          return callOperator(index, this, [first, second]);
        default:
          // eslint-disable-next-line prefer-rest-params
          return call.apply(this, arguments as unknown as unknown[]);
      }
    },
    writable: true,
    configurable: true,
  });
}
