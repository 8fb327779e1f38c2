/** Between LibTorch's memory and JavaScript's typed arrays. */
import { inspect } from 'node:util';
import { InvalidArgumentError } from './errors';
import { TensorHandle } from './handle';
import { dtypeNames, type DType, type NestedArray, type TypedArray } from './types';

/** One element of a tensor as a JavaScript value. */
export type Element = number | bigint | boolean;

/** LibTorch's number for an element type. */
export function dtypeCode(dtype: DType): number {
  const code = dtypeNames.indexOf(dtype);
  if (code < 0) throw new InvalidArgumentError(`'${dtype}' is no dtype; they are ${dtypeNames.join(', ')}`);
  return code;
}

/** A typed array over bytes that the addon copied out, with 16-bit and 8-bit floats already widened to float32. */
export function viewBuffer(buffer: ArrayBuffer, dtype: DType): TypedArray {
  switch (dtype) {
    case 'uint8':
    case 'bool':
      return new Uint8Array(buffer);
    case 'int8':
      return new Int8Array(buffer);
    case 'int16':
      return new Int16Array(buffer);
    case 'uint16':
      return new Uint16Array(buffer);
    case 'int32':
      return new Int32Array(buffer);
    case 'uint32':
      return new Uint32Array(buffer);
    case 'int64':
      return new BigInt64Array(buffer);
    case 'uint64':
      return new BigUint64Array(buffer);
    case 'float64':
    case 'complex128':
      return new Float64Array(buffer);
    case 'float16':
    case 'bfloat16':
    case 'float32':
    case 'complex64':
    case 'float8_e4m3fn':
    case 'float8_e4m3fnuz':
    case 'float8_e5m2':
    case 'float8_e5m2fnuz':
    case 'float8_e8m0fnu':
      return new Float32Array(buffer);
    default:
      throw new InvalidArgumentError(`${dtype} has no typed array; read its bytes with bytesSync()`);
  }
}

/** The element type that a typed array's elements have of themselves. */
export function dtypeOfArray(array: TypedArray): DType {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof Int8Array) return 'int8';
  if (array instanceof Uint8Array || array instanceof Uint8ClampedArray) return 'uint8';
  if (array instanceof Int16Array) return 'int16';
  if (array instanceof Uint16Array) return 'uint16';
  if (array instanceof Int32Array) return 'int32';
  if (array instanceof Uint32Array) return 'uint32';
  if (array instanceof BigInt64Array) return 'int64';
  return 'uint64';
}

/** A flat array as nested ones. Complex numbers keep their two parts as a last level. */
export function nest(flat: TypedArray, shape: readonly number[], dtype: DType): NestedArray {
  const sizes = dtype.startsWith('complex') ? [...shape, 2] : shape;
  const element = (index: number): Element => (dtype === 'bool' ? flat[index] !== 0 : flat[index]!);
  let next = 0;
  const level = (dimension: number): NestedArray =>
    dimension === sizes.length
      ? element(next++)
      : Array.from({ length: sizes[dimension]! }, () => level(dimension + 1));
  return level(0);
}

/**
 * The shape of nested arrays and their elements in row-major order, all of one kind.
 *
 * @throws InvalidArgumentError if the arrays are ragged, hold anything but numbers, bigints and booleans, or mix them
 */
export function flatten(nested: NestedArray): { shape: number[]; elements: Element[] } {
  const shape: number[] = [];
  for (let level: unknown = nested; Array.isArray(level); level = level[0] as unknown) {
    shape.push(level.length);
    if (shape.length > mostDimensions)
      throw new InvalidArgumentError('the arrays are nested too deeply, or in a circle');
  }
  const elements: Element[] = [];
  const visit = (value: unknown, dimension: number): void => {
    if (Array.isArray(value)) {
      if (value.length !== shape[dimension]) throw ragged(shape);
      // Not forEach, which would pass over holes.
      for (const item of value as unknown[]) visit(item, dimension + 1);
      return;
    }
    if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean') throw noElement(value);
    if (dimension !== shape.length) throw ragged(shape);
    if (elements.length > 0 && typeof value !== typeof elements[0]) {
      throw new InvalidArgumentError(`the data mixes ${typeof elements[0]}s and ${typeof value}s`);
    }
    elements.push(value);
  };
  visit(nested, 0);
  return { shape, elements };
}

/** LibTorch itself takes at most this many dimensions in many of its operators. */
const mostDimensions = 64;

function ragged(shape: readonly number[]): InvalidArgumentError {
  return new InvalidArgumentError(`the nested arrays are ragged: not every part has the shape [${shape.join(', ')}]`);
}

function noElement(value: unknown): InvalidArgumentError {
  const isTensor = value instanceof TensorHandle;
  const what = isTensor ? 'a tensor' : ArrayBuffer.isView(value) ? 'a typed array' : inspect(value, { depth: 0 });
  const fix = isTensor ? '; join tensors with torch.stack() or torch.cat()' : '';
  return new InvalidArgumentError(`a tensor is made of numbers, bigints or booleans, not ${what}${fix}`);
}

const integerRange = new Map<DType, readonly [bigint, bigint]>([
  ['uint8', [0n, 2n ** 8n - 1n]],
  ['uint16', [0n, 2n ** 16n - 1n]],
  ['uint32', [0n, 2n ** 32n - 1n]],
  ['uint64', [0n, 2n ** 64n - 1n]],
  ['int8', [-(2n ** 7n), 2n ** 7n - 1n]],
  ['int16', [-(2n ** 15n), 2n ** 15n - 1n]],
  ['int32', [-(2n ** 31n), 2n ** 31n - 1n]],
  ['int64', [-(2n ** 63n), 2n ** 63n - 1n]],
]);

function checkInteger(element: Element, dtype: DType, [least, most]: readonly [bigint, bigint]): bigint {
  if (typeof element === 'number' && !Number.isInteger(element)) {
    throw new InvalidArgumentError(`${String(element)} is no whole number, as ${dtype} needs`);
  }
  const integer = BigInt(element);
  if (integer < least || integer > most) throw new InvalidArgumentError(`${String(element)} does not fit ${dtype}`);
  return integer;
}

/**
 * Elements in a typed array that loses nothing on the way to the wanted dtype, and the dtype of that array. Elements without a
 * wanted dtype become float32, int64 or bool.
 *
 * @throws InvalidArgumentError if an integer dtype is wanted and an element is no whole number or out of its range
 */
export function packElements(elements: readonly Element[], wanted?: DType): { array: TypedArray; own: DType } {
  const kind = typeof elements[0];
  const integers = wanted ?? (kind === 'bigint' ? 'int64' : undefined);
  const range = integers === undefined ? undefined : integerRange.get(integers);
  if (range !== undefined && kind !== 'boolean') {
    const checked = BigInt64Array.from(elements, (element) =>
      BigInt.asIntN(64, checkInteger(element, integers!, range)),
    );
    return integers === 'uint64'
      ? { array: new BigUint64Array(checked.buffer), own: 'uint64' }
      : { array: checked, own: 'int64' };
  }
  if (kind === 'boolean') return { array: Uint8Array.from(elements, Number), own: 'bool' };
  // Through float64 where float32 would round first.
  return wanted === undefined || wanted === 'float32'
    ? { array: Float32Array.from(elements, Number), own: 'float32' }
    : { array: Float64Array.from(elements, Number), own: 'float64' };
}
