/**
 * Reading what PyTorch's `torch.save` writes (`.pt`, `.pth`, `.ckpt`, `.bin`), without running any of the Python code that such a file
 * may name.
 *
 * A file is a zip archive: `data.pkl` is a pickle of the saved object with tensors described and not held, `data/0`, `data/1`, … are the
 * tensors' storages. Before PyTorch 1.6 it was several pickles in a row, and then the storages.
 */
import { openSource, readBytes, type ByteSource } from './byte-source';
import { InvalidArgumentError, KontrastError } from './errors';
import { FileMap, readStorage, tensorOn } from './file-storage';
import { ops } from './operators';
import { PickleDamage, PickleInput, PickleTuple, unpickle, type PickleValue } from './pickle';
import {
  asIs,
  ComplexObject,
  NumpyScalar,
  plainText,
  pytorchGlobals,
  StorageObject,
  storageType,
  TensorObject,
  type StoredBytes,
} from './pytorch-globals';
import { scope } from './scope';
import { isTensor, type Tensor } from './tensor';
import type { Complex } from './types';
import { checksum, dataStart, readZipDirectory, ZipDamage, type ZipEntry } from './zip';

/**
 * What a file of PyTorch holds, in JavaScript's terms:
 *
 * | Python | here |
 * |---|---|
 * | tensor, parameter, storage | {@link Tensor}; a storage is flat |
 * | dict, OrderedDict, Counter | `Map`, in its order |
 * | list, tuple, `torch.Size` | array |
 * | set, frozenset | `Set` |
 * | int | number, beyond 2 ** 53 bigint |
 * | float, bool, str, None | number, boolean, string, null |
 * | bytes, bytearray | `Uint8Array` |
 * | complex | `{ re, im }` |
 * | `torch.dtype`, `torch.device` | string, such as `'float32'`, `'cuda:0'` |
 * | NumPy scalar | number, bigint or boolean |
 */
export type PyTorchValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Complex
  | Tensor
  | PyTorchValue[]
  | Map<PyTorchValue, PyTorchValue>
  | Set<PyTorchValue>;

/** Options of {@link readPyTorchFile}. */
export interface PyTorchFileOptions {
  /**
   * Whether the bytes are checked against the file's checksums. False is for files that were saved after
   * `torch.serialization.set_crc32_options(False)`, which have none. Default: true.
   */
  checksums?: boolean;
  /**
   * Whether tensors use the file's bytes where they lie, mapped into memory, as `mmap=True` does in PyTorch: see
   * {@link SafetensorsOptions.map}. Their bytes are not checked against the file's checksums then. Default: false.
   */
  map?: boolean;
}

/** Options of {@link readPyTorchStateDict}. */
export interface PyTorchStateDictOptions extends PyTorchFileOptions {
  /** Where in the file the state dict is: the key in the file's dict, or the keys on the way. Default: it is the whole file. */
  at?: string | readonly string[];
}

/**
 * Reads a file that `torch.save` wrote, in the zip format (PyTorch 1.6 and later) or the older one. Nothing in the file is run: it
 * may hold tensors and plain data (the table at {@link PyTorchValue}), and any other Python object is refused by name.
 *
 * Tensors come on the CPU, wherever they were, with their shape, strides and `requiresGrad`; those that shared memory when they were
 * saved share it. Python attributes of tensors and dicts are left out.
 *
 * @param file The file's path, or its bytes.
 * @throws {KontrastError} code `PYTORCH_FILE`: names the file, the place and what is wrong with it, or the Python object that it
 *   holds; code `FILE_READ`: it cannot be read. Nothing is allocated beyond the file's size, save a bounded amount for its structure.
 */
export function readPyTorchFile(file: string | Uint8Array, options: PyTorchFileOptions = {}): PyTorchValue {
  const { checksums = true, map = false } = options;
  const source = openSource(file);
  const mapping = map ? new FileMap(source) : undefined;
  try {
    return scope(() => (isZip(source) ? readZip(source, checksums, mapping) : readLegacy(source, mapping)));
  } catch (error) {
    if (!(error instanceof PickleDamage || error instanceof ZipDamage)) throw error;
    throw new KontrastError(`${source.name} cannot be read as a file of torch.save: ${error.message}`, {
      code: 'PYTORCH_FILE',
    });
  } finally {
    mapping?.close();
    source.close();
  }
}

/**
 * Reads a state dict that `torch.save` wrote, as its tensors by name.
 *
 * ```ts
 * encoder.loadStateDict(readPyTorchStateDict('checkpoint.pt', { at: 'model' }));
 * ```
 *
 * @param file The file's path, or its bytes.
 * @throws {KontrastError} as {@link readPyTorchFile}.
 * @throws {InvalidArgumentError} if what is there is not a dict of tensors by name; says what is there instead.
 */
export function readPyTorchStateDict(
  file: string | Uint8Array,
  options: PyTorchStateDictOptions = {},
): Map<string, Tensor> {
  const { at = [] } = options;
  return scope(() => {
    let found = readPyTorchFile(file, options);
    let where = 'the file';
    for (const key of typeof at === 'string' ? [at] : at) {
      const inner = found instanceof Map ? found.get(key) : undefined;
      if (inner === undefined) {
        throw new InvalidArgumentError(`there is no '${key}': ${where} holds ${describe(found)}`);
      }
      found = inner;
      where = `'${key}'`;
    }
    if (!(found instanceof Map)) {
      throw new InvalidArgumentError(`${where} holds ${describe(found)} instead of tensors by name`);
    }
    for (const [name, value] of found) {
      if (typeof name === 'string' && isTensor(value)) continue;
      throw new InvalidArgumentError(
        `${where} holds ${describe(found)}, of which '${nameOf(name)}' is ${describe(value)} and no tensor. If the state dict ` +
          'is one of them, name it in the option at',
      );
    }
    return found as Map<string, Tensor>;
  });
}

function describe(value: PyTorchValue): string {
  if (value instanceof Map) {
    const keys = [...value.keys()].slice(0, 8).map(nameOf).join(', ');
    return `a dict of ${keys === '' ? 'nothing' : keys}${value.size > 8 ? ', …' : ''}`;
  }
  if (isTensor(value)) return 'a tensor';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Set) return 'a set';
  return value === null ? 'None' : `a ${typeof value}`;
}

/** A key for a message. */
function nameOf(key: PyTorchValue): string {
  return typeof key === 'object' && key !== null ? describe(key) : String(key);
}

/** The size of the largest elements, complex128. Archives place their storages at multiples of 64. */
const ALIGNMENT = 16;

const ZIP_START = 0x04034b50;

function isZip(source: ByteSource): boolean {
  return source.size >= 4 && readBytes(source, 0, 4).readUInt32LE() === ZIP_START;
}

// --- The zip format

function readZip(source: ByteSource, checksums: boolean, mapping: FileMap | undefined): PyTorchValue {
  const entries = readZipDirectory(source);
  // Every name is in one folder, called as the file was when it was saved.
  const [first = ''] = entries.keys();
  const root = `${first.split('/')[0]!}/`;
  const entry = (name: string): ZipEntry | undefined => entries.get(root + name);
  if (entry('constants.pkl') !== undefined) {
    throw new PickleDamage(
      'it is a TorchScript program (torch.jit.save), which only LibTorch runs. Save its state_dict() with torch.save',
    );
  }
  const pickle = entry('data.pkl');
  if (pickle === undefined) throw new PickleDamage(`it is a zip archive without '${root}data.pkl'`);
  const text = (name: string): string | undefined => {
    const found = entry(name);
    if (found === undefined) return undefined;
    if (found.size > 100) throw new ZipDamage(`its entry '${found.name}' has ${found.size} bytes instead of a word`);
    return readBytes(source, dataStart(source, found), found.size).toString('latin1').trim();
  };
  const order = text('byteorder') ?? 'little';
  if (order !== 'little')
    throw new PickleDamage(`its bytes are in the order '${order}', and only 'little' can be read`);

  const verify = (checked: ZipEntry): ((part?: Uint8Array) => void) | undefined =>
    checksums ? checksum(checked) : undefined;
  const start = dataStart(source, pickle);
  verifyAll(source, start, pickle.size, verify(pickle));

  const storages = new Map<string, StoredBytes>();
  const input = new PickleInput(source, start, start + pickle.size);
  const value = located(input, ` of ${pickle.name}`, () =>
    unpickle(input, {
      globals: pytorchGlobals,
      persistent: (id) => {
        const { key, type, byteLength } = storageId(id, 5);
        let stored = storages.get(key);
        if (stored === undefined) {
          const data = entry(`data/${key}`);
          if (data === undefined) throw new PickleDamage(`the storage '${root}data/${key}' is missing`);
          if (data.size !== byteLength) {
            throw new PickleDamage(`the storage '${data.name}' has ${data.size} bytes and should have ${byteLength}`);
          }
          stored = { byteLength };
          storages.set(key, stored);
        }
        if (stored.byteLength !== byteLength) {
          throw new PickleDamage(`the storage '${key}' is used with ${stored.byteLength} and with ${byteLength} bytes`);
        }
        return new StorageObject(stored, type);
      },
    }),
  );
  const keys = new Map([...storages].map(([key, stored]) => [stored, key]));
  return finish(value, (stored) => {
    const data = entry(`data/${keys.get(stored)!}`)!;
    if (mapping) return mapping.storage(dataStart(source, data), data.size, ALIGNMENT);
    const check = verify(data);
    const bytes = readStorage(source, dataStart(source, data), data.size, check);
    check?.();
    return bytes;
  });
}

/** Checks bytes that are then read as a stream, without holding all of them. */
function verifyAll(
  source: ByteSource,
  start: number,
  length: number,
  check: ((part?: Uint8Array) => void) | undefined,
): void {
  if (check === undefined) return;
  const PART = 1 << 20;
  for (let done = 0; done < length; done += PART) {
    check(readBytes(source, start + done, Math.min(PART, length - done)));
  }
  check();
}

// --- The format before PyTorch 1.6

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
/** A tar archive, PyTorch's format before 0.2, says so here. */
const TAR_MARK = { position: 257, text: 'ustar' } as const;

function readLegacy(source: ByteSource, mapping: FileMap | undefined): PyTorchValue {
  const { position, text } = TAR_MARK;
  if (source.size > 512 && readBytes(source, position, text.length).toString('latin1') === text) {
    throw new PickleDamage(
      'it is of the tar format of PyTorch before 0.2. Load it in Python and save it again with torch.save',
    );
  }
  const input = new PickleInput(source);
  const { value, starts } = located(input, '', () => {
    let magic: PickleValue = null;
    try {
      magic = unpickle(input, plain);
    } catch (error) {
      if (!(error instanceof PickleDamage)) throw error;
    }
    if (magic !== MAGIC) throw new PickleDamage('it is neither a zip archive nor starts as the older format does');
    const version = unpickle(input, plain);
    if (version !== VERSION) throw new PickleDamage(`it is of the unknown version ${plainText(version)}`);
    const system = unpickle(input, plain);
    if (!(system instanceof Map) || system.get('little_endian') !== true) {
      throw new PickleDamage('its bytes are not little-endian, and only those can be read');
    }
    const storages = new Map<string, StorageObject>();
    const value = unpickle(input, {
      globals: pytorchGlobals,
      persistent: (id) => {
        const { key, type, byteLength, view } = storageId(id, 6);
        if (view !== null) {
          throw new PickleDamage('it holds a view of a storage. Load it in Python and save it again with torch.save');
        }
        let storage = storages.get(key);
        if (storage === undefined) {
          if (byteLength > source.size) {
            throw new PickleDamage(`the storage '${key}' should have ${byteLength} bytes, more than the file`);
          }
          storage = new StorageObject({ byteLength }, type);
          storages.set(key, storage);
        }
        if (storage.stored.byteLength !== byteLength) {
          throw new PickleDamage(`the storage '${key}' is used with several lengths`);
        }
        return new StorageObject(storage.stored, type);
      },
    });
    return { value, starts: findStorages(input, storages) };
  });
  return finish(value, (stored) => {
    const start = starts.get(stored)!;
    if (mapping) return mapping.storage(start, stored.byteLength, ALIGNMENT);
    return readStorage(source, start, stored.byteLength);
  });
}

/** Where each storage's bytes start: after the pickles comes a list of their keys, then each with its length in front. */
function findStorages(input: PickleInput, storages: ReadonlyMap<string, StorageObject>): Map<StoredBytes, number> {
  const keys = unpickle(input, plain);
  if (!Array.isArray(keys)) throw new PickleDamage('the list of its storages is missing');
  const starts = new Map<StoredBytes, number>();
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (storage === undefined || starts.has(storage.stored)) {
      throw new PickleDamage('the list of its storages is not that of its tensors');
    }
    const { stored, type } = storage;
    const count = input.take(8).readBigInt64LE();
    if (count * BigInt(type.itemSize) !== BigInt(stored.byteLength)) {
      throw new PickleDamage(
        `the storage '${String(key)}' has ${count} elements of ${type.itemSize} bytes, and should have ${stored.byteLength} bytes`,
      );
    }
    starts.set(stored, input.position);
    input.skip(stored.byteLength);
  }
  if (starts.size !== storages.size) throw new PickleDamage('it lacks some of its storages');
  return starts;
}

/** For pickles of plain data. */
const plain = {
  globals: new Map<string, PickleValue>(),
  persistent: (): PickleValue => {
    throw new PickleDamage('a tensor is where none can be');
  },
};

// --- Both

/** Runs `read`, and adds to what it finds wrong the place in the file that `input` has come to. */
function located<T>(input: PickleInput, of: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof PickleDamage)) throw error;
    throw new PickleDamage(`${error.message} (near byte ${input.position - input.start}${of})`);
  }
}

interface StorageId {
  key: string;
  type: ReturnType<typeof storageType>;
  byteLength: number;
  view: PickleValue;
}

/** Takes apart what a pickle calls a storage by: `('storage', type, key, device, elements)`, in the older format with a view behind. */
function storageId(id: PickleValue, length: number): StorageId {
  const items = id instanceof PickleTuple ? id.items : [];
  const [kind, type, key, , count, view = null] = items;
  if (items.length !== length || kind !== 'storage' || typeof key !== 'string') {
    throw new PickleDamage('it refers to something outside that is no storage');
  }
  const known = storageType(type!);
  const byteLength = typeof count === 'number' && count >= 0 ? count * known.itemSize : NaN;
  if (!Number.isSafeInteger(byteLength)) throw new PickleDamage(`the storage '${key}' has a bad length`);
  return { key, type: known, byteLength, view };
}

/** No real file is nested so deeply: Python's own recursion limit is near 1000. */
const DEEPEST = 500;

/** How many values may be there when everything that is referred to several times is counted as often. */
const MOST_VALUES = 1 << 25;

/**
 * The pickle's values as those of {@link PyTorchValue}, with tensors made. What the pickle refers to twice is there once, by two
 * references; references that go in a circle, or multiply without bound, are refused, since code that walks the result would not end.
 */
function finish(value: PickleValue, load: (stored: StoredBytes) => Tensor): PyTorchValue {
  const made = new Map<object, { result: PyTorchValue; count: number } | null>();
  const loaded = new Map<StoredBytes, Tensor>();
  const storage = (stored: StoredBytes): Tensor => {
    let bytes = loaded.get(stored);
    if (bytes === undefined) loaded.set(stored, (bytes = load(stored)));
    return bytes;
  };
  let count = 0;

  const visit = (item: PickleValue, depth: number): PyTorchValue => {
    count++;
    if (typeof item !== 'object' || item === null) return item;
    if (depth > DEEPEST) throw new PickleDamage(`it is nested more than ${DEEPEST} deep`);
    const known = made.get(item);
    if (known === null) throw new PickleDamage('it holds something that holds itself');
    const before = count;
    if (known === undefined) {
      made.set(item, null);
      const result = make(item, depth + 1);
      made.set(item, { result, count: count - before });
      return result;
    }
    count += known.count;
    if (count > MOST_VALUES) throw new PickleDamage('it refers to the same things so often that its values multiply');
    return known.result;
  };

  const make = (item: Exclude<PickleValue, null | string | number | bigint | boolean>, depth: number): PyTorchValue => {
    if (item instanceof Uint8Array) return item;
    if (Array.isArray(item)) return item.map((each) => visit(each, depth));
    if (item instanceof PickleTuple) return item.items.map((each) => visit(each, depth));
    if (item instanceof Set) return new Set([...item].map((each) => visit(each, depth)));
    if (item instanceof Map) {
      return new Map([...item].map(([key, each]) => [visit(key, depth), visit(each, depth)]));
    }
    if (item instanceof TensorObject) return makeTensor(item, storage(item.storage.stored));
    if (item instanceof StorageObject) {
      const { stored, type } = item;
      return tensorOn(storage(stored), type.dtype, [stored.byteLength / type.itemSize], [1], 0);
    }
    if (item instanceof ComplexObject) return { re: item.re, im: item.im };
    if (item instanceof NumpyScalar) return item.value;
    return asIs(item);
  };

  return visit(value, 0);
}

function makeTensor(described: TensorObject, storage: Tensor): Tensor {
  const { dtype, shape, strides, offset, requiresGrad, conjugated, negated } = described;
  let tensor = tensorOn(storage, dtype, shape, strides, offset);
  if (conjugated) tensor = tensor.conj();
  if (negated) tensor = ops.aten!._neg_view!(tensor) as Tensor;
  return requiresGrad ? tensor.requiresGrad_() : tensor;
}
