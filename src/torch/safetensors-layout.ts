/**
 * The safetensors file format, without tensors: 8 bytes with the header's length (little-endian), a JSON header that
 * names each tensor's dtype, shape and place, then the bytes of all tensors without gaps.
 *
 * Format: https://github.com/huggingface/safetensors (README, "Format").
 */
import * as fs from 'node:fs';
import { KontrastError } from './errors';

/** What the format calls a dtype, what this library calls it, and its bytes an element. */
const DTYPES = [
  ['BOOL', 'bool', 1],
  ['U8', 'uint8', 1],
  ['I8', 'int8', 1],
  ['F8_E5M2', 'float8_e5m2', 1],
  ['F8_E4M3', 'float8_e4m3fn', 1],
  ['F8_E8M0', 'float8_e8m0fnu', 1],
  ['I16', 'int16', 2],
  ['U16', 'uint16', 2],
  ['F16', 'float16', 2],
  ['BF16', 'bfloat16', 2],
  ['I32', 'int32', 4],
  ['U32', 'uint32', 4],
  ['F32', 'float32', 4],
  ['I64', 'int64', 8],
  ['U64', 'uint64', 8],
  ['F64', 'float64', 8],
  ['C64', 'complex64', 8],
] as const;

/** The dtypes that a safetensors file can hold, by this library's names. */
export type SafetensorsDType = (typeof DTYPES)[number][1];

const BY_FORMAT_NAME = new Map<string, { dtype: SafetensorsDType; itemSize: number }>(
  DTYPES.map(([name, dtype, itemSize]) => [name, { dtype, itemSize }]),
);
const BY_DTYPE = new Map<string, { name: string; itemSize: number }>(
  DTYPES.map(([name, dtype, itemSize]) => [dtype, { name, itemSize }]),
);

/** The reference implementation refuses longer headers; so a damaged length cannot make us allocate the machine's memory. */
const HEADER_LIMIT = 100_000_000;
const LENGTH_BYTES = 8;
const METADATA = '__metadata__';

/** One tensor's place in a file. */
export interface TensorLayout {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** What a file's header says. */
export interface SafetensorsLayout {
  /** In the order of their bytes. */
  readonly tensors: readonly TensorLayout[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor to be laid out. */
export interface TensorSpecification {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/**
 * Plans a file: the header's bytes (with the length in front) and where each tensor goes.
 *
 * Tensors are placed by falling element size, then by name, and the header is padded with spaces to a multiple of 8: so each
 * tensor starts at a multiple of its element size, without gaps, and equal content gives equal bytes.
 *
 * @throws {KontrastError} for a name used twice or kept by the format, and for a dtype that the format lacks.
 */
export function planSafetensors(
  tensors: readonly TensorSpecification[],
  metadata: Readonly<Record<string, string>> = {},
): { header: Uint8Array; layout: SafetensorsLayout } {
  const known = tensors.map((tensor) => {
    const entry = BY_DTYPE.get(tensor.dtype);
    if (entry === undefined) {
      throw formatError(
        `tensor '${tensor.name}' has dtype ${tensor.dtype}, which safetensors cannot hold: convert it to one of ${[...BY_DTYPE.keys()].join(', ')}`,
      );
    }
    return { ...tensor, ...entry, formatName: entry.name, name: tensor.name };
  });
  known.sort((a, b) => b.itemSize - a.itemSize || (a.name < b.name ? -1 : 1));

  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set(METADATA, metadata);
  const layout: TensorLayout[] = [];
  let end = 0;
  for (const tensor of known) {
    if (tensor.name === METADATA)
      throw formatError(`a tensor cannot be named '${METADATA}': the format keeps that name`);
    if (header.has(tensor.name)) throw formatError(`two tensors are named '${tensor.name}': names must differ`);
    const begin = end;
    end += tensor.shape.reduce((product, size) => product * size, tensor.itemSize);
    header.set(tensor.name, { dtype: tensor.formatName, shape: tensor.shape, data_offsets: [begin, end] });
    layout.push({
      name: tensor.name,
      dtype: tensor.dtype as SafetensorsDType,
      shape: tensor.shape,
      offset: begin,
      byteLength: end - begin,
    });
  }
  // Written by hand: an object would lose the name `__proto__` and put names that look like numbers first.
  const json = Buffer.from(
    `{${[...header].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
  );
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(LENGTH_BYTES + padded, ' ');
  bytes.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(bytes, LENGTH_BYTES);
  return {
    header: bytes,
    layout: {
      tensors: layout.map((tensor) => ({ ...tensor, offset: tensor.offset + bytes.byteLength })),
      metadata,
    },
  };
}

/**
 * Reads and checks a file's header: its length, its JSON, every dtype, shape and offset, that the tensors' bytes neither overlap
 * nor leave holes, and that the file is exactly as long as they say.
 *
 * @param path The file.
 * @throws {KontrastError} code `SAFETENSORS`: names the file and what is wrong with it.
 */
export function readSafetensorsLayout(path: string): SafetensorsLayout {
  const file = openFile(path);
  try {
    return readLayout(path, file);
  } finally {
    fs.closeSync(file);
  }
}

/** Opens a file for reading; the error names it. */
export function openFile(path: string): number {
  try {
    return fs.openSync(path, 'r');
  } catch (error) {
    throw formatError(`cannot read '${path}': ${(error as Error).message}`, error);
  }
}

/** As {@link readSafetensorsLayout}, on an open file; `path` is for messages. */
export function readLayout(path: string, file: number): SafetensorsLayout {
  const damaged = (what: string): KontrastError => formatError(`'${path}' is not a sound safetensors file: ${what}`);

  const fileLength = fs.fstatSync(file).size;
  if (fileLength < LENGTH_BYTES) {
    throw damaged(`it has ${fileLength} bytes, and the header's length alone takes ${LENGTH_BYTES} (cut off?)`);
  }
  const headerLength = readBytes(file, 0, LENGTH_BYTES).readBigUInt64LE(0);
  if (headerLength > BigInt(HEADER_LIMIT)) {
    throw damaged(`its header claims ${headerLength} bytes, more than the format's limit of ${HEADER_LIMIT}`);
  }
  const start = LENGTH_BYTES + Number(headerLength);
  if (start > fileLength) {
    throw damaged(`its header claims ${headerLength} bytes, but the file ends after ${fileLength} (cut off?)`);
  }

  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(readBytes(file, LENGTH_BYTES, start - LENGTH_BYTES));
    header = JSON.parse(text);
  } catch (error) {
    throw damaged(`its header is not JSON (${(error as Error).message})`);
  }
  if (!isObject(header)) throw damaged('its header is not a JSON object');

  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  const tensors: TensorLayout[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === METADATA) {
      if (!isObject(entry)) throw damaged(`its ${METADATA} is not an object`);
      for (const [key, value] of Object.entries(entry)) {
        if (typeof value !== 'string') throw damaged(`its ${METADATA} entry '${key}' is not a string`);
        metadata[key] = value;
      }
      continue;
    }
    if (!isObject(entry)) throw damaged(`the entry of tensor '${name}' is not an object`);
    const { dtype, shape, data_offsets: offsets } = entry;
    const known = typeof dtype === 'string' ? BY_FORMAT_NAME.get(dtype) : undefined;
    if (known === undefined) {
      throw damaged(
        `tensor '${name}' has the unknown dtype ${JSON.stringify(dtype)} (known: ${[...BY_FORMAT_NAME.keys()].join(', ')})`,
      );
    }
    if (!isSizes(shape)) throw damaged(`tensor '${name}' has the bad shape ${JSON.stringify(shape)}`);
    if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
      throw damaged(`tensor '${name}' has the bad data_offsets ${JSON.stringify(offsets)}`);
    }
    const byteLength = shape.reduce((product, size) => product * size, known.itemSize);
    if (offsets[1]! - offsets[0]! !== byteLength) {
      throw damaged(
        `tensor '${name}' of dtype ${String(dtype)} and shape [${shape.join(', ')}] takes ${byteLength} bytes, but its data_offsets span ${offsets[1]! - offsets[0]!}`,
      );
    }
    tensors.push({ name, dtype: known.dtype, shape, offset: start + offsets[0]!, byteLength });
  }

  tensors.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = start;
  for (const [index, tensor] of tensors.entries()) {
    const before = tensors[index - 1]?.name;
    if (tensor.offset < end) throw damaged(`the bytes of tensors '${before}' and '${tensor.name}' overlap`);
    if (tensor.offset > end) {
      throw damaged(`${tensor.offset - end} bytes before tensor '${tensor.name}' belong to no tensor`);
    }
    end += tensor.byteLength;
  }
  if (fileLength < end) {
    throw damaged(`its tensors take ${end} bytes with the header, but the file ends after ${fileLength} (cut off?)`);
  }
  if (fileLength > end) throw damaged(`${fileLength - end} bytes at its end belong to no tensor`);
  return { tensors, metadata };
}

/** Reads exactly `length` bytes at `position`; the caller has checked that the file is long enough. */
export function readBytes(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length;) {
    const count = fs.readSync(file, bytes, done, Math.min(length - done, 1 << 30), position + done);
    if (count === 0)
      throw formatError(
        `the file ended after ${position + done} bytes while it was read: did another process change it?`,
      );
    done += count;
  }
  return bytes;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
}

function formatError(message: string, cause?: unknown): KontrastError {
  return new KontrastError(message, { code: 'SAFETENSORS', cause });
}
