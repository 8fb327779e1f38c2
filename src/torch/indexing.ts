/** Parts of tensors by index: read, written and added to. */
import { inspect } from 'node:util';
import { KontrastError, TorchIndexError, TorchValueError } from './errors';
import { callOperator, callWithIntegers } from './frame';
import { fromMemory } from './from-memory';
import { TensorHandle } from './handle';
import { lazyOperator } from './lazy-operator';
import { native } from './native';
import type { Tensor } from './tensor';
import { dtypeOfArray, flatten, packElements } from './typed-arrays';
import type { DType, NestedArray, Scalar, TypedArray } from './types';

/** A range of a dimension, made by {@link slice}. */
export class Slice {
  constructor(
    readonly start: number | null,
    readonly end: number | null,
    readonly step: number,
  ) {
    if (start !== null && !Number.isSafeInteger(start)) throw boundError(start);
    if (end !== null && !Number.isSafeInteger(end)) throw boundError(end);
    if (!Number.isSafeInteger(step) || step < 1) {
      const hint = step < 0 ? ': LibTorch has no views that go backwards, so flip() the tensor first' : '';
      throw indexError(`the step of a slice is a whole number from 1, not ${inspect(step)}${hint}`);
    }
  }
}

function boundError(bound: unknown): TorchIndexError {
  return indexError(`a slice starts and ends at whole numbers or null, not at ${inspect(bound)}`);
}

/**
 * The range from `start` up to but not including `end`, every `step`th entry; negative bounds count from the end, null means the
 * dimension's own end.
 *
 * @throws TorchIndexError if `step` is not positive: `flip()` goes backwards
 */
export function slice(start: number | null = null, end: number | null = null, step = 1): Slice {
  return new Slice(start, end, step);
}

/**
 * What {@link Tensor.at} takes for each dimension, or for several:
 *
 * - an integer: one entry, whose dimension goes; negative ones count from the end. A tensor of one integer without dimensions too
 * - {@link slice}: a range
 * - `'...'`: as many whole dimensions as the other items leave over
 * - null: a new dimension of size 1
 * - positions: an integer tensor, nested arrays of integers, or a typed array of them
 * - a mask: a boolean tensor or nested arrays of booleans, for as many dimensions as it has itself; true and false are masks of none
 */
export type IndexItem = NestedArray | IntegerArray | Slice | Tensor | null | '...';

/** The typed arrays that hold positions. */
export type IntegerArray = Exclude<TypedArray, Float32Array | Float64Array>;

/** What {@link Tensor.setAt_} writes. */
export type IndexValue = Tensor | Scalar | NestedArray | TypedArray;

/** @internal */
export function readAt(tensor: Tensor, index: readonly IndexItem[]): Tensor {
  const part = index.length === 1 ? readPlainly(tensor, index[0]!) : undefined;
  if (part !== undefined) return part;
  const selection = new Selection(tensor, index);
  try {
    return selection.read();
  } finally {
    selection.dispose();
  }
}

/**
 * Reads by an index of one item for which one operator does all the work: a small one costs no more than that operator. Undefined
 * for anything else, and where LibTorch refuses: {@link Selection} then says why.
 */
function readPlainly(tensor: Tensor, item: IndexItem): Tensor | undefined {
  try {
    if (typeof item === 'number') {
      if (!Number.isSafeInteger(item)) return undefined;
      return callWithIntegers(selectOperator(), tensor, [0, item]) as Tensor;
    }
    if (item instanceof Slice) {
      return callWithIntegers(sliceOperator(), tensor, [0, item.start, item.end, item.step]) as Tensor;
    }
    if (item instanceof TensorHandle && native.isIndex(item.handle)) {
      return callOperator(indexOperator(), tensor, [[item]]) as Tensor;
    }
  } catch (error) {
    if (!(error instanceof KontrastError)) throw error;
  }
  return undefined;
}

/** @internal Writes a value into the part that an index picks, or adds it there. */
export function writeAt(tensor: Tensor, value: IndexValue, index: readonly IndexItem[], accumulate: boolean): void {
  const selection = new Selection(tensor, index);
  let source: Tensor | null = null;
  try {
    source = valueTensor(value, tensor);
    selection.write(source, accumulate);
  } finally {
    selection.dispose();
    if (source !== value) source?.dispose();
  }
}

/** The elements of nested arrays, which are to become an index tensor. */
interface Listed {
  shape: readonly number[];
  elements: ArrayLike<number | bigint | boolean>;
}

/** One item of an index; `takes` is how many dimensions of the tensor it stands for. */
type Step =
  | { kind: 'entry'; position: number | bigint; takes: 1 }
  | { kind: 'range'; range: Slice; takes: 1 }
  | { kind: 'rest'; takes: 0 }
  | { kind: 'new'; takes: 0 }
  | { kind: 'truth'; value: boolean; takes: 0 }
  | { kind: 'positions'; positions: Tensor | Listed; takes: 1 }
  | { kind: 'mask'; mask: Tensor | Listed; takes: number };

/**
 * An index on its way to LibTorch, in the order of PyTorch: integers, ranges and new dimensions make a view first; then the
 * positions and masks pick from that, all at once. Where they are neighbours their common dimensions stand in their place, else in front.
 */
class Selection {
  private view: Tensor;
  /** The positions and masks by dimension of the view; a mask has one place, whatever it takes. */
  private readonly lists: (Tensor | null)[] = [];
  /** Dimensions of masks beyond the places that they have. */
  private folded = 0;
  private readonly given: { positions: Tensor; dimension: number }[] = [];
  private readonly made: Tensor[] = [];

  constructor(
    private readonly tensor: Tensor,
    index: readonly IndexItem[],
  ) {
    this.view = tensor;
    const steps = index.map(stepOf);
    const { shape } = tensor;
    let taken = 0;
    let rests = 0;
    for (const { kind, takes } of steps) {
      taken += takes;
      if (kind === 'rest') rests++;
    }
    if (taken > shape.length) {
      const hint = shape.length === 0 ? '; read its one element with itemSync()' : '';
      throw indexError(`an index of ${String(taken)} dimensions does not fit shape ${shapeText(shape)}${hint}`);
    }
    if (rests > 1) throw indexError("an index has at most one '...'");
    try {
      this.apply(steps, shape, shape.length - taken);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  private apply(steps: readonly Step[], shape: readonly number[], left: number): void {
    let dimension = 0;
    let place = 0;
    for (const step of steps) {
      switch (step.kind) {
        case 'entry':
          checkPosition(step.position, dimension, shape);
          this.narrow(callOperator(selectOperator(), this.view, [place, Number(step.position)]) as Tensor);
          break;
        case 'range': {
          const { range } = step;
          const bounds = [place++, range.start, range.end, range.step];
          this.narrow(callOperator(sliceOperator(), this.view, bounds) as Tensor);
          break;
        }
        case 'rest':
          dimension += left;
          place += left;
          break;
        case 'new':
          this.narrow(this.view.unsqueeze(place++));
          break;
        case 'truth':
          this.narrow(this.view.unsqueeze(place));
          this.pick(place++, this.make({ shape: [step.value ? 1 : 0], elements: step.value ? [0] : [] }));
          break;
        case 'positions': {
          const { positions } = step;
          if (positions instanceof TensorHandle) {
            this.given.push({ positions, dimension });
            this.pick(place++, positions);
          } else {
            for (let i = 0; i < positions.elements.length; i++) checkPosition(positions.elements[i]!, dimension, shape);
            this.pick(place++, this.make(positions));
          }
          break;
        }
        case 'mask': {
          const { mask, takes } = step;
          checkMask(mask.shape, dimension, shape);
          this.pick(place, mask instanceof TensorHandle ? mask : this.make(mask));
          place += takes;
          this.folded += takes - 1;
          break;
        }
      }
      dimension += step.takes;
    }
  }

  private narrow(view: Tensor): void {
    this.disposeView();
    this.view = view;
  }

  private pick(place: number, positions: Tensor): void {
    while (this.lists.length < place - this.folded) this.lists.push(null);
    this.lists.push(positions);
  }

  private make({ shape, elements }: Listed): Tensor {
    const [array, dtype]: [TypedArray, DType] =
      typeof elements[0] === 'boolean'
        ? [Uint8Array.from(elements as ArrayLike<boolean>, Number), 'bool']
        : [BigInt64Array.from(elements as ArrayLike<number | bigint>, BigInt), 'int64'];
    const tensor = fromMemory(array, shape, dtype);
    this.made.push(tensor);
    return tensor;
  }

  read(): Tensor {
    if (this.lists.length === 0) {
      if (this.view === this.tensor) return callOperator(aliasOperator(), this.tensor, []) as Tensor;
      const { view } = this;
      // The view is the caller's now.
      this.view = this.tensor;
      return view;
    }
    try {
      return callOperator(indexOperator(), this.view, [this.lists]) as Tensor;
    } catch (error) {
      // LibTorch names the dimension of the view, not that of the tensor.
      if (error instanceof TorchIndexError) this.checkGiven(error);
      throw error;
    }
  }

  write(value: Tensor, accumulate: boolean): void {
    const { shape } = value;
    // As in PyTorch, a value may have dimensions of size 1 in front of those that it fills.
    const firstWide = shape.findIndex((size) => size !== 1);
    const ones = firstWide < 0 ? shape.length : firstWide;
    const source = ones === 0 ? value : value.reshape(shape.slice(ones));
    try {
      if (this.lists.length === 0) this.writeView(source, accumulate);
      else {
        // LibTorch finds a wrong position only when it has written at those before it.
        this.checkGiven();
        (callOperator(indexPutOperator(), this.view, [this.lists, source, accumulate]) as Tensor).dispose();
      }
    } finally {
      if (source !== value) source.dispose();
    }
  }

  private writeView(value: Tensor, accumulate: boolean): void {
    const { shape } = this.view;
    const offset = shape.length - value.ndim;
    if (offset < 0 || value.shape.some((size, i) => size !== 1 && size !== shape[offset + i])) {
      throw new TorchValueError(
        `a value of shape ${shapeText(value.shape)} does not fit the part of shape ${shapeText(shape)} that the index picks`,
        { code: 'VALUE' },
      );
    }
    const operator = accumulate ? addOperator() : copyOperator();
    (callOperator(operator, this.view, [value]) as Tensor).dispose();
  }

  /** Whether the positions in tensors are in range, on the CPU: elsewhere each look would wait for the device. */
  private checkGiven(cause?: unknown): void {
    const { shape } = this.tensor;
    for (const { positions, dimension } of this.given) {
      if (positions.device !== 'cpu' || positions.numel() === 0) continue;
      const [least, most] = [positions.min(), positions.max()];
      const range = [least.itemSync(), most.itemSync()];
      least.dispose();
      most.dispose();
      for (const position of range) checkPosition(position, dimension, shape, cause);
    }
  }

  private disposeView(): void {
    if (this.view !== this.tensor) this.view.dispose();
  }

  dispose(): void {
    this.disposeView();
    for (const tensor of this.made) tensor.dispose();
  }
}

function stepOf(item: IndexItem, i: number): Step {
  if (item === null) return { kind: 'new', takes: 0 };
  if (item === '...') return { kind: 'rest', takes: 0 };
  if (typeof item === 'number' || typeof item === 'bigint') {
    checkWhole(item, i);
    return { kind: 'entry', position: item, takes: 1 };
  }
  if (typeof item === 'boolean') return { kind: 'truth', value: item, takes: 0 };
  if (item instanceof Slice) return { kind: 'range', range: item, takes: 1 };
  if (item instanceof TensorHandle) return stepOfTensor(item, i);
  const listed = listedOf(item, i);
  return typeof listed.elements[0] === 'boolean'
    ? { kind: 'mask', mask: listed, takes: listed.shape.length }
    : { kind: 'positions', positions: listed, takes: 1 };
}

function stepOfTensor(tensor: Tensor, i: number): Step {
  const { dtype, ndim } = tensor;
  // LibTorch takes uint8 for masks, as it did before it had bool, and warns.
  const isMask = dtype === 'bool' || dtype === 'uint8';
  if (isMask) {
    if (ndim === 0) return { kind: 'truth', value: tensor.itemSync() !== 0, takes: 0 };
    return { kind: 'mask', mask: tensor, takes: ndim };
  }
  if (ndim === 0 && /^u?int\d+$/.test(dtype)) return { kind: 'entry', position: tensor.itemSync(), takes: 1 };
  if (dtype !== 'int64' && dtype !== 'int32') {
    throw indexError(`index item ${String(i)} is a tensor of ${dtype}; positions are int64 or int32, masks are bool`);
  }
  return { kind: 'positions', positions: tensor, takes: 1 };
}

function listedOf(item: unknown, i: number): Listed {
  if (ArrayBuffer.isView(item) && !(item instanceof DataView)) {
    if (item instanceof Float32Array || item instanceof Float64Array) {
      throw indexError(`index item ${String(i)} is a ${item.constructor.name}; positions come in arrays of integers`);
    }
    return { shape: [(item as IntegerArray).length], elements: item as IntegerArray };
  }
  if (!Array.isArray(item)) {
    throw indexError(
      `index item ${String(i)} is ${inspect(item, { depth: 0 })}; an index takes integers, slice(), null, '...', booleans, ` +
        'tensors and arrays of positions',
    );
  }
  let listed: Listed;
  try {
    listed = flatten(item as NestedArray);
  } catch (error) {
    if (!(error instanceof KontrastError)) throw error;
    throw indexError(`index item ${String(i)}: ${error.message}`, error);
  }
  for (let j = 0; j < listed.elements.length; j++) checkWhole(listed.elements[j]!, i);
  return listed;
}

function checkWhole(position: number | bigint | boolean, i: number): void {
  if (typeof position !== 'number' || Number.isSafeInteger(position)) return;
  throw indexError(`index item ${String(i)} holds ${String(position)}, which is no whole number`);
}

function checkPosition(
  position: number | bigint | boolean,
  dimension: number,
  shape: readonly number[],
  cause?: unknown,
): void {
  const size = shape[dimension]!;
  const number = Number(position);
  if (number >= -size && number < size) return;
  const place = `dimension ${String(dimension)} of shape ${shapeText(shape)}`;
  throw indexError(`index ${String(position)} is out of range for ${place}`, cause);
}

function checkMask(mask: readonly number[], dimension: number, shape: readonly number[]): void {
  if (mask.every((size, i) => size === shape[dimension + i])) return;
  throw indexError(
    `a mask of shape ${shapeText(mask)} does not fit shape ${shapeText(shape)} from dimension ${String(dimension)} on`,
  );
}

/** The value to write as a tensor: itself, or a new one of the same dtype and device as the tensor to write into. */
function valueTensor(value: IndexValue, { dtype, device }: Tensor): Tensor {
  if (value instanceof TensorHandle) return value;
  if (isScalar(value)) return callOperator(scalarOperator(), undefined, [value, { dtype, device }]) as Tensor;
  const made = ArrayBuffer.isView(value) ? fromTypedArray(value) : fromNested(value, dtype);
  const converted = made.to({ dtype, device });
  made.dispose();
  return converted;
}

function isScalar(value: Scalar | NestedArray | TypedArray): value is Scalar {
  if (typeof value === 'object') return value !== null && 're' in value;
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

function fromTypedArray(array: TypedArray): Tensor {
  return fromMemory(array, [array.length], dtypeOfArray(array));
}

function fromNested(nested: NestedArray, dtype: DType): Tensor {
  const { shape, elements } = flatten(nested);
  const { array, own } = packElements(elements, dtype);
  return fromMemory(array, shape, own);
}

function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

function indexError(message: string, cause?: unknown): TorchIndexError {
  return new TorchIndexError(message, { code: 'INDEX', cause });
}

const selectOperator = lazyOperator('aten::select.int');
const sliceOperator = lazyOperator('aten::slice.Tensor');
const aliasOperator = lazyOperator('aten::alias');
const indexOperator = lazyOperator('aten::index.Tensor');
const indexPutOperator = lazyOperator('aten::index_put_');
const copyOperator = lazyOperator('aten::copy_');
const addOperator = lazyOperator('aten::add_.Tensor');
const scalarOperator = lazyOperator('aten::scalar_tensor');
