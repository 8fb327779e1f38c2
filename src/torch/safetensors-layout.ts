/**
 * The safetensors file format, without tensors: 8 bytes with the header's length (little-endian), a JSON header that
 * names each tensor's dtype, shape and place, then the bytes of all tensors without gaps.
 *
 * Format: https://github.com/huggingface/safetensors (README, "Format").
 */
import { readBytes, withSource, type ByteSource } from './byte-source';
import { KontrastError } from './errors';

/** What the format calls a dtype, what this library calls it, and its bytes an element. */
const DTYPES = [
  ['BOOL', 'bool', 1],
  ['U8', 'uint8', 1],
  ['I8', 'int8', 1],
  ['F8_E5M2', 'float8_e5m2', 1],
  ['F8_E4M3', 'float8_e4m3fn', 1],
  ['F8_E8M0', 'float8_e8m0fnu', 1],
  ['F8_E4M3FNUZ', 'float8_e4m3fnuz', 1],
  ['F8_E5M2FNUZ', 'float8_e5m2fnuz', 1],
  // Two elements a byte: the format counts elements, LibTorch bytes.
  ['F4', 'float4_e2m1fn_x2', 1],
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

/** Of the format, but no dtype of LibTorch. */
const WITHOUT_DTYPE = new Set(['F6_E2M3', 'F6_E3M2']);

/** The dtypes that a safetensors file can hold, by this library's names. */
export type SafetensorsDType = (typeof DTYPES)[number][1];

const BY_FORMAT_NAME = new Map<string, { dtype: SafetensorsDType; itemSize: number }>(
  DTYPES.map(([name, dtype, itemSize]) => [name, { dtype, itemSize }]),
);
const BY_DTYPE = new Map<string, { name: string; itemSize: number }>(
  DTYPES.map(([name, dtype, itemSize]) => [dtype, { name, itemSize }]),
);

/** The bytes that an element takes. */
export function itemSizeOf(dtype: SafetensorsDType): number {
  return BY_DTYPE.get(dtype)!.itemSize;
}

/** The reference implementation refuses longer headers. */
const HEADER_LIMIT = 100_000_000;
const LENGTH_BYTES = 8;
const METADATA = '__metadata__';
/** Far more than any tensor has, and as many as all of LibTorch's operators take. */
const MOST_DIMENSIONS = 64;

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

  for (const [key, value] of Object.entries<unknown>(metadata)) {
    if (typeof value !== 'string') {
      throw formatError(
        `the metadata '${key}' is no string, and safetensors holds only strings: write JSON.stringify(…)`,
      );
    }
  }
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
    header.set(tensor.name, {
      dtype: tensor.formatName,
      shape: tensor.formatName === 'F4' ? withLast(tensor, 2) : tensor.shape,
      data_offsets: [begin, end],
    });
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
  if (padded > HEADER_LIMIT) {
    throw formatError(`names and metadata take ${padded} bytes, more than the format's limit of ${HEADER_LIMIT}`);
  }
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

/** The shape of a tensor with its last size multiplied. */
function withLast({ name, shape }: { name: string; shape: readonly number[] }, factor: number): number[] {
  const last = shape.at(-1);
  if (last === undefined) throw formatError(`tensor '${name}' of two elements a byte needs a dimension`);
  return [...shape.slice(0, -1), last * factor];
}

/**
 * Reads and checks a file's header: its length, its JSON, every dtype, shape and offset, that the tensors' bytes neither overlap
 * nor leave holes, and that the file is exactly as long as they say.
 *
 * @param file The file's path, or its bytes.
 * @throws {KontrastError} code `SAFETENSORS`: names the file and what is wrong with it; code `FILE_READ`: it cannot be read.
 */
export function readSafetensorsLayout(file: string | Uint8Array): SafetensorsLayout {
  return withSource(file, readLayout);
}

/** As {@link readSafetensorsLayout}, on an open file. */
export function readLayout(source: ByteSource): SafetensorsLayout {
  try {
    return checkLayout(source);
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    throw formatError(`${source.name} is not a sound safetensors file: ${error.message}`);
  }
}

/** What is wrong with a file, without its name. */
class Damage extends Error {}

function checkLayout(source: ByteSource): SafetensorsLayout {
  const { text, start } = readHeader(source);
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  const tensors: TensorLayout[] = [];
  const names = new Set<string>();
  for (const [name, entry] of membersOf(text)) {
    if (names.has(name)) throw new Damage(`two of its entries are named '${name}'`);
    names.add(name);
    if (name !== METADATA) {
      tensors.push(checkEntry(name, entry, start));
      continue;
    }
    for (const [key, value] of Object.entries(entry)) {
      if (typeof value !== 'string') throw new Damage(`its ${METADATA} entry '${key}' is not a string`);
      metadata[key] = value;
    }
  }
  checkOffsets(tensors, start, source.size);
  return { tensors, metadata };
}

/** The header's text and where the tensors' bytes start. */
function readHeader(source: ByteSource): { text: string; start: number } {
  const { size } = source;
  if (size < LENGTH_BYTES) {
    throw new Damage(`it has ${size} bytes, and the header's length alone takes ${LENGTH_BYTES} (cut off?)`);
  }
  const length = readBytes(source, 0, LENGTH_BYTES).readBigUInt64LE(0);
  if (length > BigInt(HEADER_LIMIT)) {
    throw new Damage(`its header claims ${length} bytes, more than the format's limit of ${HEADER_LIMIT}`);
  }
  const start = LENGTH_BYTES + Number(length);
  if (start > size) {
    throw new Damage(`its header claims ${length} bytes, but the file ends after ${size} (cut off?)`);
  }
  const bytes = readBytes(source, LENGTH_BYTES, start - LENGTH_BYTES);
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes), start };
  } catch {
    throw new Damage('its header is not JSON (it is not even UTF-8)');
  }
}

/**
 * The members of the header one by one, each an object. Only these are given to `JSON.parse`: it would take the last of several
 * members with one name, and make of 100 MB of brackets objects of many times that size before anything could be checked.
 */
function* membersOf(text: string): Generator<[name: string, entry: Record<string, unknown>]> {
  let at = 0;
  const skipSpace = (): void => {
    while (at < text.length && ' \t\n\r'.includes(text[at]!)) at++;
  };
  const next = (wanted: string): boolean => {
    skipSpace();
    if (text[at] !== wanted) return false;
    at++;
    return true;
  };
  const expect = (wanted: string): void => {
    if (!next(wanted)) throw notJson(`expected '${wanted}' at character ${at}`);
  };

  if (!next('{')) throw new Damage('its header is not JSON, or not a JSON object');
  if (!next('}')) {
    do {
      skipSpace();
      const nameStart = at;
      if (text[at] !== '"') throw notJson(`expected a name at character ${at}`);
      at = endOfString(text, at);
      const name = parse(text.slice(nameStart, at)) as string;
      expect(':');
      skipSpace();
      if (text[at] !== '{') throw new Damage(`the entry of '${name}' is not an object`);
      const { end, members } = endOfObject(text, at, name);
      const entry = parse(text.slice(at, end)) as Record<string, unknown>;
      if (Object.keys(entry).length !== members) throw new Damage(`the entry of '${name}' names one thing twice`);
      at = end;
      yield [name, entry];
    } while (next(','));
    expect('}');
  }
  skipSpace();
  if (at < text.length) throw notJson(`something follows its end at character ${at}`);
}

/** Past the closing quote of the string that starts at `start`. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '"') return at + 1;
    if (text[at] === '\\') at++;
  }
  throw notJson('a string has no end');
}

/** Past the closing bracket of the object that starts at `start`, and how many members it has. It may hold lists, and no objects. */
function endOfObject(text: string, start: number, name: string): { end: number; members: number } {
  let members = 0;
  let inList = false;
  for (let at = start + 1; at < text.length; at++) {
    switch (text[at]) {
      case '"':
        at = endOfString(text, at) - 1;
        break;
      case ':':
        members++;
        break;
      case '{':
      case '[':
        if (inList || text[at] === '{') throw new Damage(`the entry of '${name}' is nested too deeply`);
        inList = true;
        break;
      case ']':
        inList = false;
        break;
      case '}':
        return { end: at + 1, members };
    }
  }
  throw notJson('an object has no end');
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch (error) {
    throw notJson((error as Error).message);
  }
}

function notJson(why: string): Damage {
  return new Damage(`its header is not JSON (${why})`);
}

function checkEntry(name: string, entry: Record<string, unknown>, start: number): TensorLayout {
  const { dtype, shape, data_offsets: offsets } = entry;
  const known = typeof dtype === 'string' ? BY_FORMAT_NAME.get(dtype) : undefined;
  if (known === undefined) {
    throw new Damage(
      typeof dtype === 'string' && WITHOUT_DTYPE.has(dtype)
        ? `tensor '${name}' has the dtype ${dtype}, which LibTorch does not have`
        : `tensor '${name}' has the unknown dtype ${shorten(dtype)} (known: ${[...BY_FORMAT_NAME.keys()].join(', ')})`,
    );
  }
  if (!isSizes(shape)) throw new Damage(`tensor '${name}' has the bad shape ${shorten(shape)}`);
  if (shape.length > MOST_DIMENSIONS) {
    throw new Damage(`tensor '${name}' has ${shape.length} dimensions, more than ${MOST_DIMENSIONS}`);
  }
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw new Damage(`tensor '${name}' has the bad data_offsets ${shorten(offsets)}`);
  }
  // A size of 0 must not hide that the others overflow: LibTorch multiplies them too.
  if (!Number.isSafeInteger(shape.reduce((product, size) => product * Math.max(1, size), known.itemSize))) {
    throw new Damage(`tensor '${name}' has the shape [${shape.join(', ')}], of more elements than can be counted`);
  }
  if (dtype === 'F4') {
    if (shape.length === 0 || shape.at(-1)! % 2 !== 0) {
      throw new Damage(
        `tensor '${name}' of dtype F4 has the shape [${shape.join(', ')}], whose rows end within a byte`,
      );
    }
    shape[shape.length - 1]! /= 2;
  }
  const byteLength = shape.reduce((product, size) => product * size, known.itemSize);
  const [begin, end] = offsets as [number, number];
  if (end - begin !== byteLength) {
    throw new Damage(
      `tensor '${name}' of dtype ${String(dtype)} and shape [${shape.join(', ')}] takes ${byteLength} bytes, but its data_offsets span ${end - begin}`,
    );
  }
  return { name, dtype: known.dtype, shape, offset: start + begin, byteLength };
}

/** Sorts the tensors by their bytes and checks that these cover the rest of the file exactly. */
function checkOffsets(tensors: TensorLayout[], start: number, fileLength: number): void {
  tensors.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = start;
  for (const [index, tensor] of tensors.entries()) {
    const before = tensors[index - 1]?.name;
    if (tensor.offset < end) throw new Damage(`the bytes of tensors '${before}' and '${tensor.name}' overlap`);
    if (tensor.offset > end) {
      throw new Damage(`${tensor.offset - end} bytes before tensor '${tensor.name}' belong to no tensor`);
    }
    end += tensor.byteLength;
  }
  if (fileLength < end) {
    throw new Damage(`its tensors take ${end} bytes with the header, but the file ends after ${fileLength} (cut off?)`);
  }
  if (fileLength > end) throw new Damage(`${fileLength - end} bytes at its end belong to no tensor`);
}

/** A value of a header for a message. */
function shorten(value: unknown): string {
  const json = JSON.stringify(value) ?? 'nothing';
  return json.length > 100 ? `${json.slice(0, 100)}…` : json;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
}

function formatError(message: string): KontrastError {
  return new KontrastError(message, { code: 'SAFETENSORS' });
}
