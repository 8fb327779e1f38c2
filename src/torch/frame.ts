/** Arguments and results of operator calls: their way through the call frame. */
import { argumentName } from './argument-names';
import { DisposedError, InvalidArgumentError, TorchTypeError } from './errors';
import { frame, pool, reservePool } from './frame-memory';
import { TensorHandle } from './handle';
import { native, type PackedValue } from './native';
import { ObjectSource, TorchObject } from './object-handle';
import { adopt, inScope, openScope } from './scope';
import { dtypeNames } from './types';

/** What an entry of the frame is; `Kind` in native/environment.h holds the same numbers. */
export const enum Kind {
  Undefined = 0,
  Null = 1,
  Tensor = 2,
  Integer = 3,
  Number = 4,
  Boolean = 5,
  BigInteger = 6,
  Complex = 8,
  Generator = 9,
  TypeName = 10,
  Object = 14,
  EmptyList = 16,
  TensorList = 17,
  OptionalTensorList = 18,
  IntegerList = 19,
  NumberList = 20,
  BooleanList = 21,
  StringList = 22,
}

/** A random generator as the frame sees it. */
export class GeneratorHandle {
  /** @internal The index in the addon's table. */
  readonly index: number;

  constructor(index: number) {
    this.index = index;
  }
}

// Names of this module's own: a call reads each of them several times.
const { invoke } = native;
const { call, keywords, kinds, lengths, valueBits, values } = frame;

const wordSize = 2 ** 32;
const internedStrings = new Map<string, number>();
const internedKeywords = new Map<string, number>();
let poolUsed = 0;

let makeTensor: (handle: number) => TensorHandle = (handle) => new TensorHandle(handle);

/** @internal Sets the class that results are made of: `Tensor`, which itself needs this file. */
export function setTensorFactory(factory: (handle: number) => TensorHandle): void {
  makeTensor = factory;
}

/** @internal The class that results are made of now. */
export function tensorFactory(): (handle: number) => TensorHandle {
  return makeTensor;
}

/** @internal A new tensor for a handle, under the scope that is open. */
export function wrap(handle: number): TensorHandle {
  const tensor = makeTensor(handle);
  adopt(tensor);
  return tensor;
}

function intern(text: string): number {
  let code = internedStrings.get(text);
  if (code === undefined) {
    code = native.intern(text);
    internedStrings.set(text, code);
  }
  return code;
}

function keywordIndex(name: string): number {
  let index = internedKeywords.get(name);
  if (index === undefined) {
    index = intern(argumentName(name)) % wordSize;
    internedKeywords.set(name, index);
  }
  return index;
}

function put(entry: number, kind: number, value: number): void {
  kinds[entry] = kind;
  values[entry] = value;
}

function takePool(count: number): number {
  const offset = poolUsed;
  poolUsed += count;
  reservePool(poolUsed);
  return offset;
}

/** Writes one argument into the frame. */
function putArgument(entry: number, argument: unknown): void {
  switch (typeof argument) {
    case 'number':
      put(entry, Number.isSafeInteger(argument) ? Kind.Integer : Kind.Number, argument);
      return;
    case 'undefined':
      put(entry, Kind.Undefined, 0);
      return;
    case 'boolean':
      put(entry, Kind.Boolean, argument ? 1 : 0);
      return;
    case 'string': {
      const code = intern(argument);
      put(entry, Math.floor(code / wordSize), code % wordSize);
      return;
    }
    case 'bigint':
      if (BigInt.asIntN(64, argument) !== argument) throw tooLarge(argument);
      kinds[entry] = Kind.BigInteger;
      valueBits[entry] = argument;
      return;
    case 'object':
      putObject(entry, argument);
      return;
    default:
      throw new TorchTypeError(`a ${typeof argument} is no argument for an operator`);
  }
}

function putObject(entry: number, argument: object | null): void {
  if (argument === null) put(entry, Kind.Null, 0);
  else if (argument instanceof TensorHandle) put(entry, Kind.Tensor, argument.handle);
  else if (Array.isArray(argument)) putList(entry, argument);
  else if (ArrayBuffer.isView(argument)) putList(entry, Array.from(argument as unknown as ArrayLike<number>));
  else if (argument instanceof GeneratorHandle) put(entry, Kind.Generator, argument.index);
  else if (isComplex(argument)) {
    const offset = takePool(2);
    pool.values[offset] = argument.re;
    pool.values[offset + 1] = argument.im;
    put(entry, Kind.Complex, offset);
  } else if (argument instanceof TorchObject) put(entry, Kind.Object, argument.index);
  else if (argument instanceof ObjectSource) put(entry, Kind.Object, argument.toObject().index);
  else
    throw new TorchTypeError(
      'an object is no argument for an operator, except as the last one, with keyword arguments',
    );
}

function isComplex(value: object): value is { re: number; im: number } {
  return 're' in value && 'im' in value;
}

function putList(entry: number, list: readonly unknown[]): void {
  const count = list.length;
  const offset = takePool(count);
  const kind = count === 0 ? Kind.EmptyList : (fillPlainly(offset, list) ?? fillPool(offset, list));
  if (kind === Kind.Object) {
    putPacked(entry, list);
    return;
  }
  lengths[entry] = count;
  values[entry] = offset;
  kinds[entry] = kind;
}

function tooLarge(integer: bigint): InvalidArgumentError {
  return new InvalidArgumentError(`${String(integer)} does not fit 64 bits`);
}

/** Lists of lists, of objects, or of numbers and nulls: few operators take any, so these go the slow way. */
function putPacked(entry: number, list: readonly unknown[]): void {
  put(entry, Kind.Object, new TorchObject(native.pack(packedForm(list, 0))).index);
}

/** No schema nests lists deeper than two levels. */
const deepestList = 8;

function packedForm(value: unknown, depth: number): PackedValue {
  if (depth > deepestList) throw new TorchTypeError('a list is nested too deeply');
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return Array.from(value as unknown[], (item) => packedForm(item, depth + 1));
  if (value instanceof TensorHandle) {
    if (value.handle === 0) throw new DisposedError('a tensor in a nested list was disposed');
    return { tensor: value.handle };
  }
  if (value instanceof TorchObject) return { object: value.index };
  if (typeof value === 'object' && isComplex(value)) return { re: value.re, im: value.im };
  if (typeof value === 'object' || typeof value === 'function' || typeof value === 'symbol') {
    throw new TorchTypeError(`${itemName(value)} in a nested list is no argument for an operator`);
  }
  return value as PackedValue;
}

function unpackedForm(value: PackedValue): unknown {
  if (Array.isArray(value)) return value.map(unpackedForm);
  if (typeof value !== 'object' || value === null) return value;
  if ('tensor' in value) return wrap(value.tensor);
  if ('object' in value) return new TorchObject(value.object);
  if ('entries' in value) return new Map(value.entries.map(([key, item]) => [unpackedForm(key), unpackedForm(item)]));
  return value;
}

/** What an item of a list is, for a message. */
function itemName(item: unknown): string {
  if (item instanceof TensorHandle) return 'a tensor';
  if (item === null || item === undefined) return String(item);
  if (Array.isArray(item)) return 'a list';
  return `a ${typeof item}`;
}

/** As {@link fillPool}, for integers or tensors alone, which most lists are; undefined where there is anything else. */
function fillPlainly(offset: number, list: readonly unknown[]): Kind | undefined {
  return typeof list[0] === 'number' ? fillIntegers(offset, list) : fillTensors(offset, list);
}

function fillIntegers(offset: number, list: readonly unknown[]): Kind | undefined {
  const items = pool.values;
  for (let i = 0; i < list.length; i++) {
    const item: unknown = list[i];
    if (!Number.isSafeInteger(item)) return undefined;
    items[offset + i] = item as number;
  }
  return Kind.IntegerList;
}

function fillTensors(offset: number, list: readonly unknown[]): Kind | undefined {
  const items = pool.values;
  for (let i = 0; i < list.length; i++) {
    const item: unknown = list[i];
    if (!(item instanceof TensorHandle) || item.handle === 0) return undefined;
    items[offset + i] = item.handle;
  }
  return Kind.TensorList;
}

/** Writes the items of a list into the pool and says what they are; `Kind.Object` where the pool cannot hold them. */
function fillPool(offset: number, list: readonly unknown[]): Kind {
  const items = pool.values;
  let firstPlain: unknown;
  let hasTensor = false;
  let hasFraction = false;
  let hasNull = false;
  // Not forEach, which would pass over holes.
  for (let i = 0; i < list.length; i++) {
    const item: unknown = list[i];
    if (item === null || item === undefined) {
      items[offset + i] = 0;
      hasNull = true;
      continue;
    }
    if (item instanceof TensorHandle) {
      if (item.handle === 0) throw new DisposedError(`item ${String(i)} of a list of tensors was disposed`);
      items[offset + i] = item.handle;
      hasTensor = true;
      continue;
    }
    if (Array.isArray(item) || item instanceof TorchObject || (typeof item === 'object' && isComplex(item))) {
      return Kind.Object;
    }
    firstPlain ??= item;
    items[offset + i] = plainItem(item);
    if (typeof item !== typeof firstPlain) {
      throw new TorchTypeError(`a list mixes ${itemName(firstPlain)} and ${itemName(item)}`);
    }
    if (typeof item === 'number' && !Number.isSafeInteger(item)) hasFraction = true;
  }
  if (firstPlain === undefined) return hasNull ? Kind.OptionalTensorList : Kind.TensorList;
  if (hasTensor) throw new TorchTypeError(`a list mixes ${itemName(firstPlain)} and a tensor`);
  if (hasNull) return Kind.Object;
  if (typeof firstPlain === 'boolean') return Kind.BooleanList;
  if (typeof firstPlain === 'string') return Kind.StringList;
  return hasFraction ? Kind.NumberList : Kind.IntegerList;
}

function plainItem(item: NonNullable<unknown>): number {
  switch (typeof item) {
    case 'number':
      return item;
    case 'boolean':
      return item ? 1 : 0;
    case 'string':
      return intern(item) % wordSize;
    case 'bigint': {
      const number = Number(item);
      if (BigInt(number) !== item)
        throw new InvalidArgumentError(`${String(item)} is too large for a list of integers`);
      return number;
    }
    default:
      throw new TorchTypeError(`a list of ${typeof item}s is no argument for an operator`);
  }
}

/** Whether the last argument of a call holds keyword arguments. */
function isOptions(argument: unknown): argument is Record<string, unknown> {
  if (typeof argument !== 'object' || argument === null) return false;
  if (Array.isArray(argument) || argument instanceof TensorHandle) return false;
  const prototype: unknown = Object.getPrototypeOf(argument);
  return (prototype === Object.prototype || prototype === null) && !isComplex(argument);
}

/** The entry that follows those written so far, for keyword arguments. `requiresGrad` is ours, not the operator's. */
function putOptions(entry: number, options: Record<string, unknown>): number {
  keywords.fill(0, 0, entry);
  call[2] = 1;
  for (const name in options) {
    const argument = options[name];
    if (argument === undefined || name === 'requiresGrad') continue;
    putArgument(entry, argument);
    keywords[entry] = keywordIndex(name);
    entry++;
  }
  return entry;
}

function result(entry: number): unknown {
  const value = values[entry]!;
  const length = lengths[entry]!;
  switch (kinds[entry] as Kind) {
    case Kind.Tensor:
      return wrap(value);
    case Kind.Null:
      return null;
    case Kind.Boolean:
      return value !== 0;
    case Kind.BigInteger:
      return valueBits[entry];
    case Kind.TypeName:
      return dtypeNames[value];
    case Kind.Object:
      return unpackedForm(native.unpack(value));
    case Kind.Complex:
      return { re: pool.values[value]!, im: pool.values[value + 1]! };
    case Kind.OptionalTensorList:
      return Array.from(pool.values.subarray(value, value + length), (handle) => (handle === 0 ? null : wrap(handle)));
    case Kind.BooleanList:
      return Array.from(pool.values.subarray(value, value + length), (item) => item !== 0);
    case Kind.IntegerList:
    case Kind.NumberList:
      return Array.from(pool.values.subarray(value, value + length));
    default:
      return value;
  }
}

/** Whether the options of the call that was written last ask for a gradient of the result. */
let wantsGrad = false;

/** Writes the arguments of a call into the frame and says how many entries they take. */
function putCall(self: TensorHandle | undefined, given: ArrayLike<unknown>): number {
  poolUsed = 0;
  wantsGrad = false;
  call[2] = 0;
  let entry = 0;
  if (self !== undefined) {
    kinds[0] = Kind.Tensor;
    values[0] = self.handle;
    entry = 1;
  }
  const last = given.length - 1;
  if (last + entry >= kinds.length) throw new InvalidArgumentError('too many arguments');
  for (let i = 0; i <= last; i++) {
    const argument = given[i];
    if (typeof argument === 'number') {
      kinds[entry] = Number.isSafeInteger(argument) ? Kind.Integer : Kind.Number;
      values[entry++] = argument;
    } else if (argument instanceof TensorHandle) put(entry++, Kind.Tensor, argument.handle);
    else if (i === last && isOptions(argument)) {
      entry = putOptions(entry, argument);
      wantsGrad = argument.requiresGrad === true;
    } else putArgument(entry++, argument);
  }
  return entry;
}

/** Runs an operator on so many entries of the frame; gives the number of results. */
function run(operator: number, entries: number): number {
  call[0] = operator;
  call[1] = entries;
  invoke();
  return call[3]!;
}

/**
 * Calls an operator: `self`, when given, is its first argument. A last argument that is a plain object holds keyword
 * arguments. Gives nothing, one result, or an array of them.
 */
export function callOperator(operator: number, self: TensorHandle | undefined, given: ArrayLike<unknown>): unknown {
  const count = run(operator, putCall(self, given));
  if (count !== 1 || kinds[0] !== (Kind.Tensor as number)) return results(count);
  const tensor = wrap(values[0]!);
  if (wantsGrad) native.setRequiresGrad(tensor.handle, true);
  return tensor;
}

/**
 * As {@link callOperator}, beside the event loop: the arguments are taken now, the operator runs later on another thread, and its
 * results join the scope that is open here, if it still is.
 */
export function callOperatorAsync(operator: number, given: ArrayLike<unknown>): Promise<unknown> {
  const home = openScope();
  return new Promise((resolve, reject) => {
    const entries = putCall(undefined, given);
    const needsGrad = wantsGrad;
    native.invokeAsync(operator, entries, (error, count) => {
      if (error !== undefined) {
        reject(error as Error);
        return;
      }
      const made = inScope(home, () => results(count));
      if (needsGrad && made instanceof TensorHandle) native.setRequiresGrad(made.handle, true);
      resolve(made);
    });
  });
}

/**
 * Does everything that a call does up to running the operator: chooses the overload and converts each argument.
 *
 * @returns the schema of the overload
 * @throws TorchTypeError if no overload takes these arguments
 */
export function resolveOverload(operator: number, given: ArrayLike<unknown>): string {
  return native.resolveOverload(operator, putCall(undefined, given));
}

/** Nothing, one result, or an array of them. */
function results(count: number): unknown {
  if (count === 0) return undefined;
  if (count === 1) return result(0);
  return Array.from({ length: count }, (_, entry) => result(entry));
}

/** As {@link callOperator}, for arguments that are known to be safe integers, or null; views are made of these. */
export function callWithIntegers(
  operator: number,
  self: TensorHandle,
  given: readonly (number | null)[],
): TensorHandle {
  kinds[0] = Kind.Tensor;
  values[0] = self.handle;
  call[2] = 0;
  for (let i = 0; i < given.length; i++) {
    const integer = given[i]!;
    kinds[i + 1] = integer === null ? Kind.Null : Kind.Integer;
    values[i + 1] = integer ?? 0;
  }
  run(operator, given.length + 1);
  return wrap(values[0]!);
}

/** As {@link callOperator}, for a method's call with one list, which for most is one of sizes or dimensions. */
export function callWithList(operator: number, self: TensorHandle, list: readonly unknown[]): unknown {
  const { length } = list;
  reservePool(length);
  const kind = length === 0 || typeof list[0] !== 'number' ? undefined : fillIntegers(0, list);
  if (kind === undefined) return callOperator(operator, self, [list]);
  kinds[0] = Kind.Tensor;
  values[0] = self.handle;
  kinds[1] = kind;
  values[1] = 0;
  lengths[1] = length;
  call[2] = 0;
  const count = run(operator, 2);
  return count === 1 && kinds[0] === (Kind.Tensor as number) ? wrap(values[0]!) : results(count);
}

/**
 * As {@link callOperator}, for a method's call without arguments (`argument` undefined) or with one that is a tensor: most
 * calls are one of these, and each step that they need not take is a noticeable part of what a small operator costs.
 */
export function callPlainly(operator: number, self: TensorHandle, argument: TensorHandle | undefined): unknown {
  kinds[0] = Kind.Tensor;
  values[0] = self.handle;
  call[2] = 0;
  let count: number;
  if (argument === undefined) count = run(operator, 1);
  else {
    kinds[1] = Kind.Tensor;
    values[1] = argument.handle;
    count = run(operator, 2);
  }
  return count === 1 && kinds[0] === (Kind.Tensor as number) ? wrap(values[0]!) : results(count);
}
