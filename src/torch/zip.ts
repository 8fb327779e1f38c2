/**
 * A reader of zip archives whose entries are stored as they are, so that any of them can be read from where it lies. That is what
 * `torch.save` writes; compressed entries are refused, and with them all that unpacks to more than itself.
 *
 * Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (sections 4.3 and 4.5.3).
 */
import { crc32 } from 'node:zlib';
import { readBytes, type ByteSource } from './byte-source';

/** One file of an archive. */
export interface ZipEntry {
  readonly name: string;
  /** In bytes; more than it takes in the archive if it is compressed. */
  readonly size: number;
  /** What it takes in the archive. */
  readonly stored: number;
  /** How it is compressed; 0 for not at all. */
  readonly method: number;
  readonly crc32: number;
  /** Where its local header starts. */
  readonly header: number;
  /** Where the next entry, or the directory, starts: it ends before that. */
  readonly limit: number;
}

/** What is wrong with an archive, without its name. */
export class ZipDamage extends Error {}

const END = { signature: 0x06054b50, size: 22 } as const;
const END_64 = { signature: 0x06064b50, size: 56 } as const;
const LOCATOR_64 = { signature: 0x07064b50, size: 20 } as const;
const DIRECTORY = { signature: 0x02014b50, size: 46 } as const;
const LOCAL = { signature: 0x04034b50, size: 30 } as const;

/** Stands for a number that does not fit and is written elsewhere, in 64 bits. */
const ELSEWHERE = 0xffffffff;
const ELSEWHERE_SHORT = 0xffff;

const ENCRYPTED = 1;

/** Far more than any model has storages. */
const MOST_ENTRIES = 1 << 20;

/**
 * Reads an archive's directory: its entries by name. Each entry lies within the file, and no two overlap.
 *
 * @throws {ZipDamage} if the directory is cut off or contradicts the file, or an entry is encrypted, named twice, or named so that
 *   it would leave a folder.
 */
export function readZipDirectory(source: ByteSource): Map<string, ZipEntry> {
  const { start, end, count } = findDirectory(source);
  if (count > MOST_ENTRIES || count * DIRECTORY.size > end - start) {
    throw new ZipDamage(`its directory claims ${count} entries in ${end - start} bytes`);
  }
  const bytes = readBytes(source, start, end - start);
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + DIRECTORY.size > bytes.byteLength || bytes.readUInt32LE(at) !== DIRECTORY.signature) {
      throw new ZipDamage(`entry ${i} of its directory is not there`);
    }
    const nameLength = bytes.readUInt16LE(at + 28);
    const extraLength = bytes.readUInt16LE(at + 30);
    const next = at + DIRECTORY.size + nameLength + extraLength + bytes.readUInt16LE(at + 32);
    if (next > bytes.byteLength) throw new ZipDamage(`entry ${i} of its directory is longer than the directory`);
    const extra = at + DIRECTORY.size + nameLength;
    const name = decodeName(bytes.subarray(at + DIRECTORY.size, extra), i);
    if (bytes.readUInt16LE(at + 8) & ENCRYPTED) throw new ZipDamage(`its entry '${name}' is encrypted`);
    const method = bytes.readUInt16LE(at + 10);
    const [size, stored, header] = largeNumbers(bytes, at, bytes.subarray(extra, extra + extraLength), name);
    entries.push({ name, size, stored, method, crc32: bytes.readUInt32LE(at + 16), header, limit: start });
    at = next;
  }
  if (at !== bytes.byteLength)
    throw new ZipDamage(`${bytes.byteLength - at} bytes of its directory belong to no entry`);
  return checkPlaces(entries);
}

/**
 * Where an entry's bytes start; there are `entry.size` of them.
 *
 * @throws {ZipDamage} if it is compressed, or the header in front of its bytes contradicts the directory.
 */
export function dataStart(source: ByteSource, entry: ZipEntry): number {
  const { size, stored, method } = entry;
  if (method !== 0 || stored !== size) {
    throw new ZipDamage(
      `its entry '${entry.name}' is compressed (method ${method}, ${stored} bytes for ${size}), which torch.save never does: ` +
        'was it packed again? Load it in Python and save it again with torch.save',
    );
  }
  const header = readBytes(source, entry.header, LOCAL.size);
  const nameLength = header.readUInt16LE(26);
  const start = entry.header + LOCAL.size + nameLength + header.readUInt16LE(28);
  if (header.readUInt32LE(0) !== LOCAL.signature || start + entry.size > entry.limit) {
    throw new ZipDamage(`its entry '${entry.name}' is not where its directory says (byte ${entry.header})`);
  }
  const name = readBytes(source, entry.header + LOCAL.size, nameLength);
  if (!name.equals(Buffer.from(entry.name))) {
    throw new ZipDamage(`its entry '${entry.name}' has another name in front of its bytes (byte ${entry.header})`);
  }
  return start;
}

/** A check of an entry's bytes as they pass: called with each part, then, with none, it throws {@link ZipDamage} if they are not right. */
export function checksum(entry: ZipEntry): (part?: Uint8Array) => void {
  let sum = 0;
  return (part) => {
    if (part !== undefined) sum = crc32(part, sum);
    else if (sum !== entry.crc32) {
      throw new ZipDamage(
        `the bytes of its entry '${entry.name}' are damaged: their CRC-32 differs from the directory's. If it was saved with ` +
          'torch.serialization.set_crc32_options(False), there is none to check: pass checksums: false',
      );
    }
  };
}

/** Where the directory lies and how many entries it has: from the record that ends the file, and the 64-bit one before it. */
function findDirectory(source: ByteSource): { start: number; end: number; count: number } {
  // torch.save writes no comment, so the record is the file's last bytes.
  const endAt = source.size - END.size;
  const end = endAt < 0 ? null : readBytes(source, endAt, END.size);
  if (end?.readUInt32LE(0) !== END.signature) {
    throw new ZipDamage('it does not end as a zip archive does (cut off, or something was added?)');
  }
  let directory = { count: end.readUInt16LE(10), size: end.readUInt32LE(12), start: end.readUInt32LE(16) };
  let disks = [end.readUInt16LE(4), end.readUInt16LE(6)];
  let limit = endAt;

  const locatorAt = endAt - LOCATOR_64.size;
  const locator = locatorAt < 0 ? null : readBytes(source, locatorAt, LOCATOR_64.size);
  if (locator?.readUInt32LE(0) === LOCATOR_64.signature) {
    const recordAt = toNumber(locator.readBigUInt64LE(8));
    if (recordAt + END_64.size > locatorAt)
      throw new ZipDamage(`its directory's record lies outside the file (byte ${recordAt})`);
    const record = readBytes(source, recordAt, END_64.size);
    if (record.readUInt32LE(0) !== END_64.signature) {
      throw new ZipDamage(`its directory's record is not where the end of the file says (byte ${recordAt})`);
    }
    disks = [record.readUInt32LE(16), record.readUInt32LE(20)];
    directory = {
      count: toNumber(record.readBigUInt64LE(32)),
      size: toNumber(record.readBigUInt64LE(40)),
      start: toNumber(record.readBigUInt64LE(48)),
    };
    limit = recordAt;
  } else if (directory.count === ELSEWHERE_SHORT || directory.size === ELSEWHERE || directory.start === ELSEWHERE) {
    throw new ZipDamage('the 64-bit record of its directory is missing');
  }
  if (disks.some((disk) => disk !== 0)) throw new ZipDamage('it is one part of an archive of several files');
  const directoryEnd = directory.start + directory.size;
  if (directoryEnd !== limit) {
    throw new ZipDamage(
      `its directory should end at byte ${directoryEnd}, and its end is at byte ${limit} (was something put in front of it?)`,
    );
  }
  return { start: directory.start, end: directoryEnd, count: directory.count };
}

/** An entry's size, stored size and place, from its extra field where they do not fit 32 bits. */
function largeNumbers(bytes: Buffer, at: number, extra: Buffer, name: string): [number, number, number] {
  const numbers = [bytes.readUInt32LE(at + 24), bytes.readUInt32LE(at + 20), bytes.readUInt32LE(at + 42)];
  if (!numbers.includes(ELSEWHERE)) return numbers as [number, number, number];
  for (let field = 0; field + 4 <= extra.byteLength;) {
    const start = field + 4;
    const end = start + extra.readUInt16LE(field + 2);
    if (extra.readUInt16LE(field) === 1 && end <= extra.byteLength) {
      let next = start;
      return numbers.map((number) => {
        if (number !== ELSEWHERE) return number;
        next += 8;
        if (next > end) throw new ZipDamage(`its entry '${name}' lacks a 64-bit size or place`);
        return toNumber(extra.readBigUInt64LE(next - 8));
      }) as [number, number, number];
    }
    field = end;
  }
  throw new ZipDamage(`its entry '${name}' lacks its 64-bit sizes`);
}

/** A 64-bit number; one that is not exact is larger than any file, and so becomes one that fits nowhere. */
function toNumber(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Infinity : Number(value);
}

function decodeName(bytes: Uint8Array, index: number): string {
  let name: string;
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ZipDamage(`the name of entry ${index} is not UTF-8`);
  }
  if (name === '' || name.startsWith('/') || /[\\\0]/.test(name) || name.split('/').includes('..')) {
    throw new ZipDamage(`the name of entry ${index} is not safe: ${JSON.stringify(name)}`);
  }
  return name;
}

/** The entries by name, each with the place where it must have ended; they may not overlap. */
function checkPlaces(entries: ZipEntry[]): Map<string, ZipEntry> {
  const byName = new Map<string, ZipEntry>();
  entries.sort((a, b) => a.header - b.header);
  for (const [index, entry] of entries.entries()) {
    const limit = entries[index + 1]?.header ?? entry.limit;
    const least = entry.header + LOCAL.size + Buffer.byteLength(entry.name) + entry.stored;
    if (least > limit) {
      throw new ZipDamage(`its entry '${entry.name}' reaches beyond byte ${limit}, where something else starts`);
    }
    if (byName.has(entry.name)) throw new ZipDamage(`two of its entries are named '${entry.name}'`);
    byName.set(entry.name, { ...entry, limit });
  }
  return byName;
}
