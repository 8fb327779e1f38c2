/** Looks into wheels that have not been downloaded: what they require and what they hold. */
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Entry, ZipFile } from 'yauzl';
import { LibTorchSetupError } from './errors';
import { HttpError, connectionError, openUrl, publicAddress, readUrl, withRetries, type HttpOptions } from './http';
import type { IndexedWheel } from './package-index';
import { requiresDist } from './requirements';

/** One file of a wheel. */
export interface WheelFile {
  path: string;
  /** Bytes when unpacked. */
  size: number;
}

/** What a look into a wheel has shown. */
interface WheelContent {
  /** Bytes of the wheel itself; null where its server does not tell. */
  size: number | null;
  /** Null where the server sends the wheel as a whole only. */
  inside: { metadata: string; files: readonly WheelFile[] } | null;
}

/** A wheel up to this size is read whole where its server can't send a part of it. */
const smallWheel = 4 << 20;

/** Remote files are read in pieces of this size. */
const blockSize = 256 << 10;

/**
 * Reads the lists of files and the requirements of wheels. Of those on a server it fetches the ends only, by requests for ranges of
 * bytes, or the file of metadata that the index offers.
 */
export class WheelReader {
  private readonly contents = new Map<string, Promise<WheelContent>>();

  constructor(private readonly http: HttpOptions) {}

  /** The wheel's `Requires-Dist` lines; null when its server shows them only with all of the wheel. */
  async requirementsOf(wheel: IndexedWheel): Promise<string[] | null> {
    if (wheel.hasMetadataFile) {
      try {
        return requiresDist((await readUrl(`${wheel.url}.metadata`, {}, this.http)).body.toString('utf8'));
      } catch (error) {
        // Some mirrors pass on the promise without the file.
        if (!(error instanceof HttpError) || error.status !== 404) throw error;
      }
    }
    const { inside } = await this.contentOf(wheel);
    return inside === null ? null : requiresDist(inside.metadata);
  }

  /** What the wheel holds; null when its server shows that only with all of the wheel. */
  async filesOf(wheel: IndexedWheel): Promise<readonly WheelFile[] | null> {
    return (await this.contentOf(wheel)).inside?.files ?? null;
  }

  /** Bytes of the wheel itself; null where neither its index nor its server tells. */
  async sizeOf(wheel: IndexedWheel): Promise<number | null> {
    return wheel.size ?? (await this.contentOf(wheel)).size;
  }

  private contentOf(wheel: IndexedWheel): Promise<WheelContent> {
    let content = this.contents.get(wheel.url);
    if (content === undefined) this.contents.set(wheel.url, (content = this.readContent(wheel)));
    return content;
  }

  private async readContent(wheel: IndexedWheel): Promise<WheelContent> {
    const { size, zip } = await this.open(wheel);
    if (zip === null) return { size, inside: null };
    try {
      let metadata: Entry | undefined;
      const files: WheelFile[] = [];
      for await (const entry of zip.eachEntry()) {
        files.push({ path: entry.fileName, size: entry.uncompressedSize });
        if (/^[^/]+\.dist-info\/METADATA$/.test(entry.fileName)) metadata = entry;
      }
      if (metadata === undefined) throw new Error('it has no METADATA');
      const chunks: Buffer[] = [];
      for await (const chunk of await zip.openReadStreamPromise(metadata)) chunks.push(chunk as Buffer);
      return { size, inside: { metadata: Buffer.concat(chunks).toString('utf8'), files } };
    } catch (error) {
      throw unreadable(wheel, error);
    } finally {
      zip.close();
    }
  }

  private async open(wheel: IndexedWheel): Promise<{ size: number | null; zip: ZipFile | null }> {
    const yauzl = await import('yauzl');
    const options = { autoClose: false };
    try {
      if (wheel.url.startsWith('file:')) {
        return { size: wheel.size, zip: await yauzl.openPromise(fileURLToPath(wheel.url), options) };
      }
      const { size, tail } = await readTail(wheel.url, this.http);
      if (size === null || tail === null) return { size, zip: null };
      const ranges = new RemoteRanges(wheel.url, tail, this.http);
      class Reader extends yauzl.RandomAccessReader {
        override _readStreamForRange(start: number, end: number): Readable {
          return Readable.from(
            (async function* () {
              yield await ranges.read(start, end);
            })(),
          );
        }
      }
      return { size, zip: await yauzl.fromRandomAccessReaderPromise(new Reader(), size, options) };
    } catch (error) {
      throw unreadable(wheel, error);
    }
  }
}

/** The last bytes of a file, and where in it they begin. */
interface Tail {
  start: number;
  bytes: Buffer;
}

/** The end of a remote file, or all of it when it is small, and its size; of a big file whose server sends no parts, the size alone. */
async function readTail(url: string, http: HttpOptions): Promise<{ size: number | null; tail: Tail | null }> {
  return withRetries(http, async () => {
    const headers = { range: `bytes=-${blockSize}`, 'accept-encoding': 'identity' };
    const { response, idle } = await openUrl(url, headers, http);
    try {
      const total = Number(/\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]);
      const isPart = response.status === 206 && total > 0;
      const length = response.headers.get('content-length');
      if (!isPart && !(Number(length ?? NaN) <= smallWheel)) {
        await response.body?.cancel();
        return { size: length === null ? null : Number(length), tail: null };
      }
      const bytes = Buffer.from(await response.arrayBuffer());
      const size = isPart ? total : bytes.length;
      return { size, tail: { start: size - bytes.length, bytes } };
    } catch (error) {
      throw connectionError(url, error, http);
    } finally {
      idle.stop();
    }
  });
}

/** Reads a remote file piece by piece and keeps what it has read. */
class RemoteRanges {
  readonly size: number;
  private readonly blocks = new Map<number, Promise<Buffer>>();

  constructor(
    private readonly url: string,
    private readonly tail: Tail,
    private readonly http: HttpOptions,
  ) {
    this.size = tail.start + tail.bytes.length;
  }

  async read(start: number, end: number): Promise<Buffer> {
    if (start >= this.tail.start) return this.tail.bytes.subarray(start - this.tail.start, end - this.tail.start);
    const parts: Buffer[] = [];
    for (let index = Math.floor(start / blockSize); index * blockSize < end; index++) {
      const block = await this.block(index);
      const first = index * blockSize;
      parts.push(block.subarray(Math.max(0, start - first), end - first));
    }
    return Buffer.concat(parts);
  }

  private block(index: number): Promise<Buffer> {
    let block = this.blocks.get(index);
    if (block === undefined) this.blocks.set(index, (block = this.fetchBlock(index)));
    return block;
  }

  private async fetchBlock(index: number): Promise<Buffer> {
    const start = index * blockSize;
    const end = Math.min(start + blockSize, this.size);
    const headers = { range: `bytes=${start}-${end - 1}`, 'accept-encoding': 'identity' };
    const { status, body } = await readUrl(this.url, headers, this.http);
    if (status !== 206 || body.length !== end - start) {
      throw new HttpError(`${publicAddress(this.url)} sent another part of the file than it was asked for`);
    }
    return body;
  }
}

function unreadable(wheel: IndexedWheel, error: unknown): Error {
  if (error instanceof LibTorchSetupError) return error;
  // A missing permission is not the wheel's fault.
  if (typeof (error as NodeJS.ErrnoException).syscall === 'string') return error as Error;
  return new LibTorchSetupError(
    `${wheel.fileName} (${publicAddress(wheel.url)}) is damaged: ${(error as Error).message}`,
    {
      code: 'LIBTORCH_DAMAGED',
      cause: error,
    },
  );
}
