/**
 * Arguments and results of TorchScript methods: their way to and from the addon. What JavaScript has no value of its own
 * for crosses as an object, which native/script.cc reads and makes as well.
 */
import { inspect } from 'node:util';
import { DisposedError, InvalidArgumentError, TorchTypeError } from './errors';
import { TensorHandle } from './handle';
import type { Tensor } from './tensor';
import type { Complex, TypedArray } from './types';

/**
 * What a TorchScript method takes. Lists and tuples are arrays; dictionaries are maps, or plain objects where keys are text; a
 * named tuple is an array or a plain object of its members; a device is its name, a member of an enumeration its name. Null is
 * None, and undefined stands for the argument's default.
 */
export type ScriptArgument =
  | Tensor
  | number
  | bigint
  | boolean
  | string
  | null
  | undefined
  | Complex
  | TypedArray
  | readonly ScriptArgument[]
  | ReadonlyMap<ScriptArgument, ScriptArgument>
  | { readonly [name: string]: ScriptArgument };

/**
 * What a TorchScript method gives. Lists and tuples become arrays, dictionaries maps, named tuples plain objects; an int
 * is a bigint where a number could not hold it.
 */
export type ScriptResult =
  | Tensor
  | number
  | bigint
  | boolean
  | string
  | null
  | Complex
  | ScriptResult[]
  | Map<ScriptResult, ScriptResult>
  | { [name: string]: ScriptResult };

type Encoded =
  | number
  | bigint
  | boolean
  | string
  | null
  | Complex
  | Encoded[]
  | { tensor: number }
  | { entries: Encoded[]; isObject?: boolean }
  | { names: string[]; items: Encoded[] };

/** As deep as the addon follows; only a circle goes deeper. */
const mostLevels = 100;

/** An argument as the addon takes it. */
export function encodeArgument(value: unknown): unknown {
  return value === undefined ? undefined : encode(value, 0);
}

function encode(value: unknown, level: number): Encoded {
  if (level > mostLevels) throw new InvalidArgumentError('an argument is nested too deeply, or in a circle');
  switch (typeof value) {
    case 'number':
    case 'bigint':
    case 'boolean':
    case 'string':
      return value;
    case 'undefined':
      return null;
    case 'object':
      return value === null ? null : encodeObject(value, level);
    default:
      throw new TorchTypeError(`a ${typeof value} is no argument for a TorchScript method`);
  }
}

function encodeObject(value: object, level: number): Encoded {
  const inner = (item: unknown): Encoded => encode(item, level + 1);
  if (value instanceof TensorHandle) {
    if (value.handle === 0) throw new DisposedError('a tensor given to a TorchScript method was disposed');
    return { tensor: value.handle };
  }
  // Array.from does not pass over holes, as map does.
  if (Array.isArray(value)) return Array.from(value as unknown[], inner);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value as Uint8Array);
  if (value instanceof Map) {
    const entries: Encoded[] = [];
    for (const [key, item] of value as Map<unknown, unknown>) entries.push(inner(key), inner(item));
    return { entries };
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TorchTypeError(`${inspect(value, { depth: 0 })} is no argument for a TorchScript method`);
  }
  if (isComplex(value)) return { re: value.re, im: value.im };
  return { entries: Object.entries(value).flatMap(([key, item]) => [key, inner(item)]), isObject: true };
}

function isComplex(value: object): value is Complex {
  const { re, im } = value as Partial<Complex>;
  return typeof re === 'number' && typeof im === 'number' && Object.keys(value).length === 2;
}

/** A result as JavaScript takes it; `wrap` makes the tensors. */
export function decodeResult(value: unknown, wrap: (handle: number) => TensorHandle): ScriptResult {
  const decode = (encoded: Encoded): ScriptResult => {
    if (typeof encoded !== 'object' || encoded === null) return encoded;
    if (Array.isArray(encoded)) return encoded.map(decode);
    if ('tensor' in encoded) return wrap(encoded.tensor) as Tensor;
    if ('re' in encoded) return encoded;
    if ('names' in encoded) {
      return Object.fromEntries(encoded.names.map((name, index) => [name, decode(encoded.items[index]!)]));
    }
    const map = new Map<ScriptResult, ScriptResult>();
    const { entries } = encoded;
    for (let i = 0; i < entries.length; i += 2) map.set(decode(entries[i]!), decode(entries[i + 1]!));
    return map;
  };
  return decode(value as Encoded);
}
