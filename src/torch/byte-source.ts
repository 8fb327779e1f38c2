/** Files that are read in parts, each part from where it lies, so that a large file need not be in memory as a whole. */
import { constants } from 'node:buffer';
import * as fs from 'node:fs';
import { KontrastError } from './errors';

/** The bytes of a file, or bytes in memory in its place. */
export interface ByteSource {
  /** What messages call it: the path in quotes. */
  readonly name: string;
  /** How many bytes there are. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `position` on.
   *
   * @throws {KontrastError} code `FILE_READ` if there are not so many bytes, or the system refuses.
   */
  fill(target: Uint8Array, position: number): void;
  /**
   * The system's number of the file, which still has all its bytes; undefined for bytes in memory.
   *
   * @throws {KontrastError} code `FILE_READ` if the file was closed, or has become shorter since it was opened.
   */
  openFile(): number | undefined;
  /** Gives the file back to the system. Doing so twice is harmless. */
  close(): void;
}

/** One read call moves at most this many bytes: Linux itself stops at 2 GiB. */
const READ_LIMIT = 1 << 30;

/**
 * Opens a file for reading, or takes bytes in its place.
 *
 * @throws {KontrastError} code `FILE_READ`, naming the file.
 */
export function openSource(file: string | Uint8Array): ByteSource {
  return typeof file === 'string' ? new FileSource(file) : new MemorySource(file);
}

/** Opens a file, hands it to `use`, and closes it whatever happens. */
export function withSource<T>(file: string | Uint8Array, use: (source: ByteSource) => T): T {
  const source = openSource(file);
  try {
    return use(source);
  } finally {
    source.close();
  }
}

/**
 * The `length` bytes from `position` on. Nothing is allocated before it is known that they exist.
 *
 * @throws {KontrastError} code `FILE_READ` if they do not, or the system refuses.
 */
export function readBytes(source: ByteSource, position: number, length: number): Buffer {
  checkRange(source, position, length);
  if (length > constants.MAX_LENGTH) {
    throw readError(source.name, `its ${length} bytes from byte ${position} on are more than Node takes at once`);
  }
  const bytes = Buffer.allocUnsafe(length);
  source.fill(bytes, position);
  return bytes;
}

function checkRange(source: ByteSource, position: number, length: number): void {
  if (!(position >= 0 && length >= 0 && position + length <= source.size)) {
    throw readError(source.name, `it has ${source.size} bytes, and ${length} were to be read from byte ${position} on`);
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  private file: number | null;

  constructor(path: string) {
    this.name = `'${path}'`;
    let file: number | undefined;
    try {
      // Before opening: to open a pipe would wait for a writer.
      if (!fs.statSync(path).isFile()) throw new Error('it is not a file');
      file = fs.openSync(path, 'r');
      this.size = fs.fstatSync(file).size;
      this.file = file;
    } catch (error) {
      if (file !== undefined) fs.closeSync(file);
      throw readError(this.name, (error as Error).message, error);
    }
  }

  openFile(): number {
    const file = this.descriptor();
    const { size } = fs.fstatSync(file);
    if (size < this.size) throw this.cutOff(size);
    return file;
  }

  fill(target: Uint8Array, position: number): void {
    const file = this.descriptor();
    checkRange(this, position, target.byteLength);
    for (let done = 0; done < target.byteLength;) {
      const wanted = Math.min(target.byteLength - done, READ_LIMIT);
      let count: number;
      try {
        count = fs.readSync(file, target, done, wanted, position + done);
      } catch (error) {
        throw readError(this.name, (error as Error).message, error);
      }
      if (count === 0) throw this.cutOff(position + done);
      done += count;
    }
  }

  close(): void {
    if (this.file !== null) fs.closeSync(this.file);
    this.file = null;
  }

  private descriptor(): number {
    if (this.file === null) throw readError(this.name, 'it was closed');
    return this.file;
  }

  private cutOff(end: number): KontrastError {
    return readError(this.name, `it ended after ${end} bytes while it was read: did another process change it?`);
  }
}

class MemorySource implements ByteSource {
  readonly name = 'the bytes given';
  readonly size: number;

  constructor(private readonly bytes: Uint8Array) {
    this.size = bytes.byteLength;
  }

  fill(target: Uint8Array, position: number): void {
    checkRange(this, position, target.byteLength);
    target.set(this.bytes.subarray(position, position + target.byteLength));
  }

  openFile(): undefined {
    return undefined;
  }

  close(): void {
    // Memory has nothing to give back.
  }
}

function readError(name: string, what: string, cause?: unknown): KontrastError {
  return new KontrastError(`cannot read ${name}: ${what}`, { code: 'FILE_READ', cause });
}
