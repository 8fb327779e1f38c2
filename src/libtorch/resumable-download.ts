/** Downloads a file so that it can be gone on with after any interruption, and so that nothing but the whole, right file gets its name. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LibTorchSetupError } from './errors';
import { HttpError, backOff, connectionError, mayPass, openUrl, publicAddress, type HttpOptions } from './http';

/** What is downloaded. */
export interface RemoteFile {
  fileName: string;
  url: string;
  sha256: string | null;
  size: number | null;
}

/** What is known of a part from the time it was begun, in a file beside it. */
interface PartNote {
  url: string;
  sha256: string | null;
  /** The server's own mark of this version of the file: an entity tag or a date. */
  validator: string | null;
}

/** Where the bytes of a file are, so far. */
export function partPath(folder: string, fileName: string): string {
  return join(folder, `${fileName}.part`);
}

function notePath(folder: string, fileName: string): string {
  return join(folder, `${fileName}.part.json`);
}

/** How many bytes of a file are here already. */
export function bytesHere(folder: string, { fileName }: RemoteFile): number {
  const path = [join(folder, fileName), partPath(folder, fileName)].find((candidate) => existsSync(candidate));
  return path === undefined ? 0 : statSync(path).size;
}

/**
 * Downloads into a folder and returns the path. Bytes go to `<name>.part`; what is there from an earlier try is gone on with. The
 * file gets its name when it is complete, matches its hash and is on the disk.
 *
 * @param onBytes told how many bytes of the file are here; the number falls when the download starts over
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`, `LIBTORCH_DAMAGED`, `LIBTORCH_SPACE`); what was received stays for the next try
 */
export async function downloadFile(
  file: RemoteFile,
  folder: string,
  http: HttpOptions,
  onBytes: (bytes: number) => void = () => undefined,
): Promise<string> {
  const target = join(folder, file.fileName);
  if (existsSync(target)) {
    if ((await isWhole(target, file)) && file.sha256 !== null) {
      onBytes(statSync(target).size);
      return target;
    }
    rmSync(target);
  }
  const part = partPath(folder, file.fileName);
  const note = notePath(folder, file.fileName);
  const download = new Download(file, part, note, http, onBytes);
  try {
    if (!(await download.run())) {
      // Bytes from two versions of a file, or a bad proxy: a fresh start shows which.
      download.discard();
      if (!(await download.run())) {
        download.discard();
        throw new LibTorchSetupError(
          `${publicAddress(file.url)} is not what the package index says: its SHA-256 is another, also when it is downloaded ` +
            `from the start. Name another package index: --index-url <url>`,
          { code: 'LIBTORCH_DAMAGED' },
        );
      }
    }
  } catch (error) {
    throw explainFileFault(error, folder);
  }
  const handle = await open(part, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  renameSync(part, target);
  rmSync(note, { force: true });
  return target;
}

async function isWhole(path: string, { size, sha256 }: RemoteFile): Promise<boolean> {
  if (size !== null && statSync(path).size !== size) return false;
  return sha256 === null || (await hashFile(path)).digest('hex') === sha256;
}

async function hashFile(path: string): Promise<Hash> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) hash.update(chunk);
  });
  return hash;
}

/** The state of one file's download over all its requests. */
class Download {
  private hash = createHash('sha256');
  /** Bytes in the part file; all of them are in the hash. */
  private done = 0;
  private total: number | null;
  private note: PartNote;

  constructor(
    private readonly file: RemoteFile,
    private readonly part: string,
    private readonly notePath: string,
    private readonly http: HttpOptions,
    private readonly onBytes: (bytes: number) => void,
  ) {
    this.total = file.size;
    this.note = { url: file.url, sha256: file.sha256, validator: null };
  }

  /** Receives what is missing, and says whether the result is right. */
  async run(): Promise<boolean> {
    await this.takeUp();
    const { retries = 5 } = this.http;
    for (let failures = 0; this.total === null || this.done < this.total;) {
      const before = this.done;
      try {
        await this.receive();
        if (this.total !== null && this.done < this.total) {
          throw new HttpError(`${publicAddress(this.file.url)} ended after ${this.done} of ${this.total} bytes`);
        }
      } catch (error) {
        if (this.done > before) failures = 0;
        if (!mayPass(error) || failures >= retries) throw error;
        await backOff(failures++, this.http);
      }
    }
    if (this.done !== this.total) return false;
    return this.file.sha256 === null || this.hash.copy().digest('hex') === this.file.sha256;
  }

  /** Forgets what was received. */
  discard(): void {
    rmSync(this.part, { force: true });
    rmSync(this.notePath, { force: true });
    this.startOver();
  }

  /** Goes on with the part of an earlier process when it is of the same file. */
  private async takeUp(): Promise<void> {
    const note = readNote(this.notePath);
    // The same hash is the same file wherever it comes from; without one, the server has to vouch for its own file.
    const isSame =
      note !== null &&
      note.sha256 === this.file.sha256 &&
      (note.sha256 !== null || (note.url === this.file.url && note.validator !== null));
    if (!isSame || !existsSync(this.part)) return this.discard();
    const { size } = statSync(this.part);
    if (this.total !== null && size > this.total) return this.discard();
    // A mark of another server means nothing to this one.
    this.note = { ...note, url: this.file.url, validator: note.url === this.file.url ? note.validator : null };
    this.hash = await hashFile(this.part);
    this.done = size;
    this.onBytes(this.done);
  }

  private startOver(): void {
    this.hash = createHash('sha256');
    this.done = 0;
    this.onBytes(0);
  }

  /** One request: from where the part ends, where the server can do that. */
  private async receive(): Promise<void> {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (this.done > 0) {
      headers.range = `bytes=${this.done}-`;
      if (this.note.validator !== null) headers['if-range'] = this.note.validator;
    }
    const { response, idle } = await openUrl(this.file.url, headers, this.http);
    try {
      const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
      const goesOn = response.status === 206 && Number(range?.[1]) === this.done;
      if (response.status === 416 || (response.status === 206 && !goesOn)) {
        this.discard();
        throw new HttpError(`${publicAddress(this.file.url)} could not be gone on with`);
      }
      if (!goesOn && this.done > 0) this.discard();
      this.learn(response, goesOn ? Number(range![2]) : Number(response.headers.get('content-length') ?? NaN));
      await this.write(response, idle.touch.bind(idle));
      // Without a length the end is where the server says so.
      this.total ??= this.done;
    } catch (error) {
      if (error instanceof LibTorchSetupError || isFileFault(error)) throw error;
      throw connectionError(this.file.url, error, this.http);
    } finally {
      idle.stop();
      await response.body?.cancel().catch(() => undefined);
    }
  }

  private learn(response: Response, length: number): void {
    if (Number.isFinite(length)) {
      if (this.file.size !== null && length !== this.file.size) {
        throw new LibTorchSetupError(
          `${publicAddress(this.file.url)} has ${length} bytes, and the package index says ${this.file.size}. ` +
            `Name another package index: --index-url <url>`,
          { code: 'LIBTORCH_DAMAGED' },
        );
      }
      this.total = length;
    }
    const tag = response.headers.get('etag');
    // A weak tag does not promise the same bytes.
    const validator = tag !== null && !tag.startsWith('W/') ? tag : response.headers.get('last-modified');
    this.note = { url: this.file.url, sha256: this.file.sha256, validator };
    writeFileSync(this.notePath, JSON.stringify(this.note));
  }

  private async write(response: Response, touch: () => void): Promise<void> {
    const handle = await open(this.part, this.done === 0 ? 'w' : 'a');
    try {
      for await (const piece of response.body ?? []) {
        const chunk = piece as Uint8Array;
        touch();
        for (let at = 0; at < chunk.length;) at += (await handle.write(chunk, at)).bytesWritten;
        this.hash.update(chunk);
        this.done += chunk.length;
        this.onBytes(this.done);
      }
    } finally {
      await handle.close();
    }
  }
}

function readNote(path: string): PartNote | null {
  try {
    const note = JSON.parse(readFileSync(path, 'utf8')) as PartNote;
    return typeof note.url === 'string' && note.sha256 !== undefined ? note : null;
  } catch {
    return null;
  }
}

const fileFaults = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EACCES', 'EPERM', 'EROFS', 'EIO']);

/** Whether this machine's disk is at fault, and not the network. */
function isFileFault(error: unknown): boolean {
  return fileFaults.has((error as NodeJS.ErrnoException).code ?? '');
}

function explainFileFault(error: unknown, folder: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new LibTorchSetupError(
    `The disk with ${folder} is full. Free some space and run the same command again: it goes on where it stopped. ` +
      `KONTRAST_CACHE=<folder> names a folder on another disk.`,
    { code: 'LIBTORCH_SPACE', cause: error },
  );
}
