/** Between LibTorch's memory and JavaScript's typed arrays. */
import { InvalidArgumentError } from './errors';
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

/** The shape of nested arrays and their elements in row-major order. */
export function flatten(nested: NestedArray): { shape: number[]; elements: Element[] } {
  const shape: number[] = [];
  for (let level = nested; typeof level === 'object'; level = level[0] ?? 0) shape.push(level.length);
  const elements: Element[] = [];
  const visit = (value: NestedArray, dimension: number): void => {
    if (typeof value !== 'object') {
      if (dimension !== shape.length) throw ragged(shape);
      elements.push(value);
      return;
    }
    if (value.length !== shape[dimension]) throw ragged(shape);
    for (const item of value) visit(item, dimension + 1);
  };
  visit(nested, 0);
  return { shape, elements };
}

function ragged(shape: readonly number[]): InvalidArgumentError {
  return new InvalidArgumentError(`the nested arrays are ragged: not every part has the shape [${shape.join(', ')}]`);
}
