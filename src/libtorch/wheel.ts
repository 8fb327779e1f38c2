import { createHash } from 'node:crypto';
import { createWriteStream, mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Entry, ZipFile } from 'yauzl';
import { LibTorchSetupError } from './errors';

/** One line of a wheel's `RECORD`: what a file must be. */
interface RecordLine {
  /** SHA-256 in URL-safe base64 without padding, as the wheel format writes it; `null` for `RECORD` and signatures. */
  sha256: string | null;
  /** Bytes. */
  size: number | null;
}

/** What to unpack of a wheel, and where to. */
export interface UnpackOptions {
  /** Path of the `.whl` file. */
  wheel: string;
  /** An existing folder; paths inside it are as in the wheel. */
  destination: string;
  /** Chooses by path inside the wheel (always with `/`). */
  includes: (path: string) => boolean;
  /** Told now and then: bytes unpacked so far and bytes to unpack in all. */
  onProgress?: (done: number, total: number) => void;
}

/** What was unpacked. */
export interface UnpackResult {
  files: number;
  bytes: number;
}

/**
 * Unpacks a part of a wheel and checks every file of it against the wheel's own record: SHA-256 and size. Files that the record
 * names but the archive lacks, files that the record does not name, and names that would leave the destination are errors. All that
 * was unpacked is on the disk (synced) when this returns.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DAMAGED`) naming the wheel and the file; the destination then holds a part of the files
 */
export async function unpackWheel(options: UnpackOptions): Promise<UnpackResult> {
  const { wheel, destination, includes, onProgress } = options;
  const damaged = (what: string, cause?: unknown) =>
    new LibTorchSetupError(`${basename(wheel)} is damaged: ${what}; delete it and try again`, {
      code: 'LIBTORCH_DAMAGED',
      cause,
    });

  const archive = await readArchive(wheel, damaged);
  try {
    const record = await readRecord(archive, damaged);
    const chosen = archive.entries.filter((entry) => !entry.fileName.endsWith('/') && includes(entry.fileName));
    const present = new Set(chosen.map((entry) => entry.fileName));
    for (const path of record.keys()) {
      if (includes(path) && !present.has(path)) throw damaged(`${path} is named in its record but missing`);
    }
    if (present.size !== chosen.length) throw damaged('it holds two files of the same name');

    const total = chosen.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
    const written: string[] = [];
    const folders = new Set<string>();
    let done = 0;
    for (const entry of chosen) {
      const expected = record.get(entry.fileName);
      if (!expected) throw damaged(`${entry.fileName} is not named in its record`);
      const target = join(destination, ...entry.fileName.split('/'));
      const folder = dirname(target);
      if (!folders.has(folder)) mkdirSync(folder, { recursive: true });
      folders.add(folder);

      const hash = createHash('sha256');
      let size = 0;
      const measure = new Transform({
        transform(chunk: Buffer, _encoding, callback) {
          hash.update(chunk);
          size += chunk.length;
          done += chunk.length;
          onProgress?.(done, total);
          callback(null, chunk);
        },
      });
      const mode = (entry.externalFileAttributes >>> 16) & 0o111 ? 0o755 : 0o644;
      try {
        const content = await archive.zip.openReadStreamPromise(entry);
        await pipeline(content, measure, createWriteStream(target, { flags: 'wx', mode }));
      } catch (error) {
        if (isFileSystemError(error)) throw error;
        throw damaged(`${entry.fileName} can't be unpacked (${(error as Error).message})`, error);
      }
      if (expected.size !== null && size !== expected.size) {
        throw damaged(`${entry.fileName} has ${size} bytes, its record says ${expected.size}`);
      }
      if (expected.sha256 !== null && hash.digest('base64url') !== expected.sha256) {
        throw damaged(`${entry.fileName} does not match the hash in its record`);
      }
      written.push(target);
    }
    await syncAll([...written, ...folders]);
    return { files: written.length, bytes: done };
  } finally {
    archive.zip.close();
  }
}

/** The paths inside a wheel, without unpacking anything. */
export async function listWheel(wheel: string): Promise<string[]> {
  const archive = await readArchive(
    wheel,
    (what, cause) =>
      new LibTorchSetupError(`${basename(wheel)} is damaged: ${what}; delete it and try again`, {
        code: 'LIBTORCH_DAMAGED',
        cause,
      }),
  );
  archive.zip.close();
  return archive.entries.map((entry) => entry.fileName);
}

type DamagedError = (what: string, cause?: unknown) => LibTorchSetupError;

interface Archive {
  zip: ZipFile;
  entries: Entry[];
}

async function readArchive(wheel: string, damaged: DamagedError): Promise<Archive> {
  // Loaded here and not at the top: finding LibTorch is a part of every start, unpacking is not.
  const yauzl = await import('yauzl');
  let zip: ZipFile | undefined;
  try {
    zip = await yauzl.openPromise(wheel, { autoClose: false, strictFileNames: true });
    const entries: Entry[] = [];
    for await (const entry of zip.eachEntry()) {
      const unsafe = refusePath(entry.fileName);
      if (unsafe !== null) throw new Error(`'${entry.fileName}' ${unsafe}`);
      entries.push(entry);
    }
    return { zip, entries };
  } catch (error) {
    zip?.close();
    if (isFileSystemError(error)) throw error;
    throw damaged((error as Error).message, error);
  }
}

/** Why a path inside an archive is not safe to join to a folder, or `null`; yauzl refuses most of these by itself. */
function refusePath(path: string): string | null {
  if (path.startsWith('/') || /^[a-zA-Z]:/.test(path)) return 'is an absolute path';
  if (path.includes('\\') || path.includes('\0')) return 'holds a character that no wheel uses';
  const parts = path.replace(/\/$/, '').split('/');
  return parts.some((part) => part === '' || part === '.' || part === '..') ? 'would leave its folder' : null;
}

async function readRecord(archive: Archive, damaged: DamagedError): Promise<Map<string, RecordLine>> {
  const entry = archive.entries.find(({ fileName }) => /^[^/]+\.dist-info\/RECORD$/.test(fileName));
  if (!entry) throw damaged('it has no RECORD');
  let text: string;
  try {
    text = await readText(await archive.zip.openReadStreamPromise(entry));
  } catch (error) {
    if (isFileSystemError(error)) throw error;
    throw damaged(`its RECORD can't be read (${(error as Error).message})`, error);
  }
  const record = new Map<string, RecordLine>();
  for (const line of text.split(/\r?\n/)) {
    if (line === '') continue;
    const fields = splitRecordLine(line);
    if (fields.length !== 3) throw damaged(`its RECORD has a line that can't be read: ${line.slice(0, 120)}`);
    const [path, hash, size] = fields as [string, string, string];
    const signature = /^[^/]+\.dist-info\/RECORD(\.jws|\.p7s)?$/.test(path);
    const sha256 = /^sha256=([\w-]{43})=?$/.exec(hash)?.[1] ?? null;
    if (sha256 === null && !signature) throw damaged(`its RECORD gives no SHA-256 for ${path}`);
    record.set(path, { sha256, size: size === '' ? null : Number(size) });
  }
  return record;
}

/** Splits one line of comma-separated values; a field with a comma in it is in double quotes. */
function splitRecordLine(line: string): string[] {
  const fields: string[] = [];
  for (const [, quoted, plain] of line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)) {
    fields.push(quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'));
  }
  return fields;
}

async function readText(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** Forces files and folders to the disk, a few at a time: thousands of small headers would take minutes one by one. */
async function syncAll(paths: readonly string[]): Promise<void> {
  const queue = paths.values();
  const worker = async () => {
    for (const path of queue) {
      const file = await open(path, 'r');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

/** Errors of the file system (a full disk, a missing permission) are not the wheel's fault. */
function isFileSystemError(error: unknown): boolean {
  return typeof (error as NodeJS.ErrnoException).syscall === 'string';
}
