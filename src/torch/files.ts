/**
 * Files that are either whole or absent: written to a temporary name beside the target, flushed to the disk, and renamed
 * over it. A crash leaves the old file as it was, and at most a temporary file that {@link removeTemporaryFiles} clears.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { KontrastError } from './errors';

/** One write call moves at most this many bytes: Linux itself stops at 2 GiB. */
const WRITE_LIMIT = 1 << 30;

const TEMPORARY_SUFFIX = '.tmp';

/** Writes all of `bytes` at the file's current position. */
export function writeFully(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) {
    done += fs.writeSync(file, bytes, done, Math.min(bytes.byteLength - done, WRITE_LIMIT));
  }
}

/** Flushes a folder's entries, so that a rename in it survives a power cut. Not every system can; those that cannot are left be. */
function syncFolder(folder: string): void {
  let handle: number;
  try {
    handle = fs.openSync(folder, 'r');
  } catch {
    return; // Windows cannot open a folder as a file.
  }
  try {
    fs.fsyncSync(handle);
  } catch {
    // Some network file systems refuse; the rename is still atomic for every reader.
  } finally {
    fs.closeSync(handle);
  }
}

/**
 * Writes a file atomically. Readers see the old content or the new, never a part.
 *
 * @param target The file's name; its folder must exist.
 * @param content The whole content, or a function that writes it to an open file descriptor.
 * @throws {KontrastError} code `FILE_WRITE` when the system refuses (no space, no permission, no folder); what `content` throws
 *   otherwise. The target is then unchanged and the temporary file gone.
 */
export function writeFileAtomic(target: string, content: string | Uint8Array | ((file: number) => void)): void {
  const temporary = `${target}.${process.pid}${TEMPORARY_SUFFIX}`;
  try {
    const file = fs.openSync(temporary, 'w');
    try {
      if (typeof content === 'function') content(file);
      else writeFully(file, typeof content === 'string' ? Buffer.from(content) : content);
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(temporary, target);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw new KontrastError(`cannot write '${target}': ${(error as Error).message}`, {
      code: 'FILE_WRITE',
      cause: error,
    });
  }
  syncFolder(path.dirname(target));
}

/** Removes what {@link writeFileAtomic} left beside `target` when a process was killed while it wrote. */
export function removeTemporaryFiles(target: string): void {
  const folder = path.dirname(target);
  const start = `${path.basename(target)}.`;
  for (const name of fs.readdirSync(folder)) {
    const middle = name.slice(start.length, -TEMPORARY_SUFFIX.length);
    if (name.startsWith(start) && name.endsWith(TEMPORARY_SUFFIX) && /^\d+$/.test(middle)) {
      fs.rmSync(path.join(folder, name), { force: true });
    }
  }
}
