import { crc32 } from 'node:zlib';

/** An entry of {@link storedZip}; what is left out is as `torch.save` has it. */
export interface StoredEntry {
  name: string;
  content: Uint8Array;
  /** What the directory says instead. */
  directory?: {
    name?: string;
    crc32?: number;
    size?: number;
    stored?: number;
    method?: number;
    flags?: number;
    header?: number;
  };
  /** The directory's extra field. */
  extra?: Uint8Array;
  /** The name in front of the bytes. */
  localName?: string;
}

function record(size: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(size);
  write(bytes);
  return bytes;
}

/** What {@link storedZip} writes at the end instead. */
export interface ZipEnd {
  count?: number;
  size?: number;
  start?: number;
  disk?: number;
  /** Write the 64-bit records too, with the true numbers or these. */
  large?: { count?: bigint; size?: bigint; start?: bigint; record?: bigint; signature?: number } | true;
}

/** A zip archive of stored entries, which may lie about itself. */
export function storedZip(entries: readonly StoredEntry[], end: ZipEnd = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  const add = (bytes: Uint8Array): void => {
    parts.push(Buffer.from(bytes));
    at += bytes.byteLength;
  };
  for (const { name, content, localName = name, extra = new Uint8Array(0), directory: lies = {} } of entries) {
    const header = at;
    const sum = crc32(content);
    const local = Buffer.from(localName);
    add(
      record(30, (bytes) => {
        bytes.writeUInt32LE(0x04034b50, 0);
        bytes.writeUInt32LE(sum, 14);
        bytes.writeUInt32LE(content.byteLength, 18);
        bytes.writeUInt32LE(content.byteLength, 22);
        bytes.writeUInt16LE(local.byteLength, 26);
      }),
    );
    add(local);
    add(content);
    const named = Buffer.from(lies.name ?? name, 'latin1');
    directory.push(
      record(46, (bytes) => {
        bytes.writeUInt32LE(0x02014b50, 0);
        bytes.writeUInt16LE(lies.flags ?? 0, 8);
        bytes.writeUInt16LE(lies.method ?? 0, 10);
        bytes.writeUInt32LE(lies.crc32 ?? sum, 16);
        bytes.writeUInt32LE(lies.stored ?? content.byteLength, 20);
        bytes.writeUInt32LE(lies.size ?? content.byteLength, 24);
        bytes.writeUInt16LE(named.byteLength, 28);
        bytes.writeUInt16LE(extra.byteLength, 30);
        bytes.writeUInt32LE(lies.header ?? header, 42);
      }),
      named,
      Buffer.from(extra),
    );
  }
  const start = at;
  for (const part of directory) add(part);
  const size = at - start;
  if (end.large !== undefined) {
    const lies = end.large === true ? {} : end.large;
    const recordAt = at;
    add(
      record(56, (bytes) => {
        bytes.writeUInt32LE(lies.signature ?? 0x06064b50, 0);
        bytes.writeBigUInt64LE(44n, 4);
        bytes.writeBigUInt64LE(lies.count ?? BigInt(entries.length), 32);
        bytes.writeBigUInt64LE(lies.size ?? BigInt(size), 40);
        bytes.writeBigUInt64LE(lies.start ?? BigInt(start), 48);
      }),
    );
    add(
      record(20, (bytes) => {
        bytes.writeUInt32LE(0x07064b50, 0);
        bytes.writeBigUInt64LE(lies.record ?? BigInt(recordAt), 8);
        bytes.writeUInt32LE(1, 16);
      }),
    );
  }
  add(
    record(22, (bytes) => {
      bytes.writeUInt32LE(0x06054b50, 0);
      bytes.writeUInt16LE(end.disk ?? 0, 4);
      bytes.writeUInt16LE(end.count ?? entries.length, 10);
      bytes.writeUInt32LE(end.size ?? size, 12);
      bytes.writeUInt32LE(end.start ?? start, 16);
    }),
  );
  return Buffer.concat(parts);
}
