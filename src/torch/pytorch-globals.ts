/** The Python names that a file of PyTorch may use, and what each stands for. Every other name is refused. */
import { PickleDamage, PickleFunction, PickleObject, PickleTuple, type PickleValue } from './pickle';
import { dtypeNames, type DType } from './types';

/** The bytes of one storage, which tensors and storages share. */
export interface StoredBytes {
  readonly byteLength: number;
}

/** What kind of elements a storage has. */
export class StorageType extends PickleObject {
  constructor(
    readonly dtype: DType,
    readonly itemSize: number,
  ) {
    super();
  }
}

/** A storage, seen as elements of a type. */
export class StorageObject extends PickleObject {
  constructor(
    readonly stored: StoredBytes,
    readonly type: StorageType,
  ) {
    super();
  }
}

/** A tensor, described: every element is known to lie in the storage. */
export class TensorObject extends PickleObject {
  constructor(
    readonly storage: StorageObject,
    readonly dtype: DType,
    /** In elements. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    readonly requiresGrad: boolean,
    readonly conjugated: boolean,
    readonly negated: boolean,
  ) {
    super();
  }

  /** The same tensor as a parameter. */
  asParameter(requiresGrad: boolean): TensorObject {
    const { storage, dtype, offset, shape, strides, conjugated, negated } = this;
    checkGradient(dtype, requiresGrad);
    return new TensorObject(storage, dtype, offset, shape, strides, requiresGrad, conjugated, negated);
  }
}

/** A Python complex number. */
export class ComplexObject extends PickleObject {
  constructor(
    readonly re: number,
    readonly im: number,
  ) {
    super();
  }
}

/** A dtype or device: a word. */
class Word extends PickleObject {
  constructor(readonly text: string) {
    super();
  }
}

/** A class that is named and never called. */
class ClassName extends PickleObject {}

/** What an object stands for in the result, where that is a word. */
export function asIs(object: PickleObject): string {
  if (object instanceof Word) return object.text;
  throw new PickleDamage(
    object instanceof PickleFunction
      ? `it holds the Python function '${object.name}' as a value`
      : 'it holds a Python class as a value',
  );
}

/** The bytes an element of each dtype takes that a file can hold. */
const ITEM_SIZES = new Map<DType, number>([
  ['bool', 1],
  ['uint8', 1],
  ['int8', 1],
  ['float8_e5m2', 1],
  ['float8_e4m3fn', 1],
  ['float8_e5m2fnuz', 1],
  ['float8_e4m3fnuz', 1],
  ['float8_e8m0fnu', 1],
  ['float4_e2m1fn_x2', 1],
  ['int16', 2],
  ['uint16', 2],
  ['float16', 2],
  ['bfloat16', 2],
  ['int32', 4],
  ['uint32', 4],
  ['float32', 4],
  ['complex32', 4],
  ['int64', 8],
  ['uint64', 8],
  ['float64', 8],
  ['complex64', 8],
  ['complex128', 16],
]);

const STORAGES: readonly (readonly [string, DType])[] = [
  ['DoubleStorage', 'float64'],
  ['FloatStorage', 'float32'],
  ['HalfStorage', 'float16'],
  ['BFloat16Storage', 'bfloat16'],
  ['LongStorage', 'int64'],
  ['IntStorage', 'int32'],
  ['ShortStorage', 'int16'],
  ['CharStorage', 'int8'],
  ['ByteStorage', 'uint8'],
  ['BoolStorage', 'bool'],
  ['ComplexFloatStorage', 'complex64'],
  ['ComplexDoubleStorage', 'complex128'],
];

/** The type that a storage's identifier names. */
export function storageType(value: PickleValue): StorageType {
  if (!(value instanceof StorageType)) throw new PickleDamage('a storage has no type');
  return value;
}

/** A value for a message. Only the plainest are shown: what a stranger nests would make a long message, or none. */
export function plainText(value: PickleValue | undefined): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 50));
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : 'something else';
}

function bad(name: string): PickleDamage {
  return new PickleDamage(`it calls '${name}' with arguments that PyTorch would not give it`);
}

function isSize(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Far more than any tensor has, and as many as all of LibTorch's operators take. */
const MOST_DIMENSIONS = 64;

function sizes(value: PickleValue | undefined, name: string): readonly number[] {
  if (!(value instanceof PickleTuple) || value.items.length > MOST_DIMENSIONS || !value.items.every(isSize)) {
    throw bad(name);
  }
  return value.items as readonly number[];
}

function checkGradient(dtype: DType, requiresGrad: PickleValue | undefined): asserts requiresGrad is boolean {
  if (typeof requiresGrad !== 'boolean' || (requiresGrad && !/^(b?float|complex)/.test(dtype))) {
    throw new PickleDamage(`it holds a tensor of ${dtype} whose requires_grad is ${plainText(requiresGrad)}`);
  }
}

interface Layout {
  storage: PickleValue | undefined;
  dtype: DType | undefined;
  offset: PickleValue | undefined;
  size: PickleValue | undefined;
  stride: PickleValue | undefined;
  requiresGrad: PickleValue | undefined;
  metadata: PickleValue | undefined;
}

/** Checks that every element of a tensor lies in its storage: what LibTorch would otherwise read is someone else's memory. */
function describeTensor(layout: Layout, name: string): TensorObject {
  const { storage, offset, requiresGrad, metadata = null } = layout;
  if (!(storage instanceof StorageObject) || !isSize(offset)) throw bad(name);
  const dtype = layout.dtype ?? storage.type.dtype;
  const itemSize = ITEM_SIZES.get(dtype);
  if (itemSize === undefined) throw new PickleDamage(`it holds a tensor of the dtype ${dtype}, which cannot be read`);
  const shape = sizes(layout.size, name);
  const strides = sizes(layout.stride, name);
  if (shape.length !== strides.length) throw bad(name);
  checkGradient(dtype, requiresGrad);
  // A size of 0 must not hide that the others overflow: LibTorch multiplies them too.
  if (!Number.isSafeInteger(shape.reduce((product, size) => product * Math.max(1, size), itemSize))) {
    throw new PickleDamage(`it holds a tensor of shape [${shape.join(', ')}], of more elements than can be counted`);
  }
  if (!shape.includes(0)) {
    const last = shape.reduce((sum, size, dimension) => sum + (size - 1) * strides[dimension]!, offset);
    if ((last + 1) * itemSize > storage.stored.byteLength) {
      throw new PickleDamage(
        `it holds a tensor of shape [${shape.join(', ')}], strides [${strides.join(', ')}] and offset ${offset} that reaches ` +
          `beyond the ${storage.stored.byteLength} bytes of its storage`,
      );
    }
  }
  if (metadata !== null && !(metadata instanceof Map)) throw bad(name);
  const conjugated = metadata?.get('conj') === true;
  if (conjugated && !dtype.startsWith('complex')) throw bad(name);
  return new TensorObject(
    storage,
    dtype,
    offset,
    shape,
    strides,
    requiresGrad,
    conjugated,
    metadata?.get('neg') === true,
  );
}

const functions: Record<string, (args: readonly PickleValue[], name: string) => PickleValue> = {
  'torch._utils._rebuild_tensor': ([storage, offset, size, stride], name) =>
    describeTensor({ storage, dtype: undefined, offset, size, stride, requiresGrad: false, metadata: null }, name),
  'torch._utils._rebuild_tensor_v2': ([storage, offset, size, stride, requiresGrad, , metadata], name) =>
    describeTensor({ storage, dtype: undefined, offset, size, stride, requiresGrad, metadata }, name),
  'torch._utils._rebuild_tensor_v3': ([storage, offset, size, stride, requiresGrad, , dtype, metadata], name) => {
    if (!(dtype instanceof Word)) throw bad(name);
    return describeTensor({ storage, dtype: dtype.text as DType, offset, size, stride, requiresGrad, metadata }, name);
  },
  'torch._utils._rebuild_parameter': ([data, requiresGrad], name) => {
    if (!(data instanceof TensorObject) || typeof requiresGrad !== 'boolean') throw bad(name);
    return data.asParameter(requiresGrad);
  },
  'torch._utils._rebuild_parameter_with_state': ([data, requiresGrad], name) => {
    if (!(data instanceof TensorObject) || typeof requiresGrad !== 'boolean') throw bad(name);
    return data.asParameter(requiresGrad);
  },
  // A tensor or parameter with Python attributes: how to make it, its class, the arguments and the attributes.
  'torch._tensor._rebuild_from_type_v2': ([make, type, args], name) => {
    if (!(make instanceof PickleFunction && type instanceof ClassName && args instanceof PickleTuple)) throw bad(name);
    // Only functions that make tensors, and so not this one: calls cannot nest.
    if (!make.name.startsWith('torch._utils._rebuild_')) throw bad(name);
    return make.call(args.items);
  },

  'torch.Size': ([size], name) => new PickleTuple(sizes(size, name)),
  'torch.device': ([type, index], name) => {
    if (typeof type !== 'string' || (index !== undefined && !isSize(index))) throw bad(name);
    return new Word(index === undefined ? type : `${type}:${index}`);
  },

  'collections.OrderedDict': ([items = []], name) => {
    if (!Array.isArray(items)) throw bad(name);
    const dict = new Map<PickleValue, PickleValue>();
    for (const pair of items) {
      const [key, value] = Array.isArray(pair) ? pair : pair instanceof PickleTuple ? pair.items : [];
      if (key === undefined || value === undefined) throw bad(name);
      dict.set(key, value);
    }
    return dict;
  },
  'collections.Counter': ([counts = new Map()], name) => {
    if (!(counts instanceof Map)) throw bad(name);
    return new Map(counts);
  },

  // Python 3 writes bytes so in protocol 2: a string of as many characters.
  '_codecs.encode': ([text, encoding], name) => {
    if (typeof text !== 'string' || encoding !== 'latin1') throw bad(name);
    return encodeLatin1(text, name);
  },
  'numpy.dtype': ([code], name) => {
    if (typeof code !== 'string' || !/^[biuf][1248]$/.test(code)) {
      throw new PickleDamage(`it holds a NumPy value of the type ${plainText(code)}`);
    }
    return new NumpyDType(code, name);
  },
};

function encodeLatin1(text: string, name: string): Uint8Array {
  if (!/^[\0-\xff]*$/.test(text)) throw bad(name);
  return Uint8Array.from(Buffer.from(text, 'latin1'));
}

/** NumPy's description of a scalar's type. Its byte order comes afterwards, as a state. */
class NumpyDType extends PickleObject {
  littleEndian = true;

  constructor(
    readonly code: string,
    private readonly name: string,
  ) {
    super();
  }

  override setState(state: PickleValue): void {
    const order = state instanceof PickleTuple ? state.items[1] : undefined;
    if (order !== '<' && order !== '>' && order !== '|') throw bad(this.name);
    this.littleEndian = order !== '>';
  }
}

/** A number of NumPy's. */
export class NumpyScalar extends PickleObject {
  constructor(readonly value: number | bigint | boolean) {
    super();
  }
}

function numpyScalar([type, bytes]: readonly PickleValue[], name: string): NumpyScalar {
  if (!(type instanceof NumpyDType && bytes instanceof Uint8Array)) throw bad(name);
  const { code, littleEndian } = type;
  if (bytes.byteLength !== Number(code[1])) throw bad(name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const integer = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
  switch (code) {
    case 'b1':
      return new NumpyScalar(view.getUint8(0) !== 0);
    case 'i1':
      return new NumpyScalar(view.getInt8(0));
    case 'i2':
      return new NumpyScalar(view.getInt16(0, littleEndian));
    case 'i4':
      return new NumpyScalar(view.getInt32(0, littleEndian));
    case 'i8':
      return new NumpyScalar(integer(view.getBigInt64(0, littleEndian)));
    case 'u1':
      return new NumpyScalar(view.getUint8(0));
    case 'u2':
      return new NumpyScalar(view.getUint16(0, littleEndian));
    case 'u4':
      return new NumpyScalar(view.getUint32(0, littleEndian));
    case 'u8':
      return new NumpyScalar(integer(view.getBigUint64(0, littleEndian)));
    case 'f4':
      return new NumpyScalar(view.getFloat32(0, littleEndian));
    case 'f8':
      return new NumpyScalar(view.getFloat64(0, littleEndian));
    default:
      throw new PickleDamage(`it holds a NumPy value of the type ${code}, which cannot be read`);
  }
}

/** Functions that Python calls by two names: in protocol 2 their modules have the names of Python 2. */
const builtins: Record<string, (args: readonly PickleValue[], name: string) => PickleValue> = {
  set: ([items = []], name) => setOf(items, name),
  frozenset: ([items = []], name) => setOf(items, name),
  complex: ([re, im], name) => {
    if (typeof re !== 'number' || typeof im !== 'number') throw bad(name);
    return new ComplexObject(re, im);
  },
  bytes: (args, name) => {
    if (args.length > 0) throw bad(name);
    return new Uint8Array(0);
  },
  bytearray: ([content, encoding], name) => {
    if (content === undefined) return new Uint8Array(0);
    if (content instanceof Uint8Array) return content;
    if (typeof content !== 'string' || encoding !== 'latin-1') throw bad(name);
    return encodeLatin1(content, name);
  },
};

function setOf(items: PickleValue, name: string): Set<PickleValue> {
  if (!Array.isArray(items) || items.some((item) => Array.isArray(item) || item instanceof Map)) throw bad(name);
  return new Set(items);
}

function makeGlobals(): Map<string, PickleValue> {
  const globals = new Map<string, PickleValue>();
  const define = (name: string, call: (args: readonly PickleValue[], name: string) => PickleValue): void => {
    globals.set(name, new PickleFunction(name, (args) => call(args, name)));
  };
  for (const [name, call] of Object.entries(functions)) define(name, call);
  for (const [name, call] of Object.entries(builtins)) {
    define(`builtins.${name}`, call);
    define(`__builtin__.${name}`, call);
  }
  // NumPy 2 moved it.
  define('numpy.core.multiarray.scalar', numpyScalar);
  define('numpy._core.multiarray.scalar', numpyScalar);

  for (const dtype of dtypeNames) globals.set(`torch.${dtype}`, new Word(dtype));
  for (const [name, dtype] of STORAGES) {
    const type = new StorageType(dtype, ITEM_SIZES.get(dtype)!);
    globals.set(`torch.${name}`, type);
    globals.set(`torch.cuda.${name}`, type);
  }
  const bytes = new StorageType('uint8', 1);
  // Its name in PyTorch 1.11 and 1.12, and since.
  for (const name of ['_UntypedStorage', 'UntypedStorage']) globals.set(`torch.storage.${name}`, bytes);
  for (const name of [
    'torch.Tensor',
    'torch._tensor.Tensor',
    'torch.nn.parameter.Parameter',
    'torch.nn.parameter.Buffer',
  ]) {
    globals.set(name, new ClassName());
  }
  return globals;
}

/** What each Python name stands for that a file may use. */
export const pytorchGlobals: ReadonlyMap<string, PickleValue> = makeGlobals();
