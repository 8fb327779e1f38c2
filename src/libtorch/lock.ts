import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LibTorchSetupError } from './errors';

/** How a lock is waited for. */
export interface LockOptions {
  /** How long to wait for the other process, in seconds. Default: 1800, the time of a slow download. */
  timeoutSeconds?: number;
  /** Told once, when there is someone to wait for. */
  onWait?: (owner: string) => void;
}

interface Owner {
  process: number;
  host: string;
}

/**
 * Runs `work` while no other process holds the lock of the same folder. The lock is a file with its owner's process
 * number, so a lock whose owner has died is taken over.
 *
 * @throws LibTorchSetupError (`LIBTORCH_LOCKED`) when the owner is still at work after the time-out
 */
export async function withLock<T>(folder: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const { timeoutSeconds = 1800, onWait } = options;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, '.setup.lock');
  const deadline = Date.now() + timeoutSeconds * 1000;
  let told = false;
  while (!tryCreate(path)) {
    const owner = readOwner(path);
    if (owner !== null && isDead(owner)) {
      removeLockOfDead(path);
      await sleep(10);
      continue;
    }
    const who = owner ? `process ${owner.process} on ${owner.host}` : 'another process';
    if (Date.now() > deadline) {
      throw new LibTorchSetupError(
        `${who} has held ${path} for more than ${timeoutSeconds} s; when it is not at work any more, delete that file`,
        { code: 'LIBTORCH_LOCKED' },
      );
    }
    if (!told) onWait?.(who);
    told = true;
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

/** Creates a file that must not exist yet, with this process as its owner. */
function tryCreate(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeSync(file, JSON.stringify({ process: process.pid, host: hostname() } satisfies Owner));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return true;
}

/** The owner, or `null` while the file is gone or its content has not been written yet. */
function readOwner(path: string): Owner | null {
  try {
    const owner = JSON.parse(readFileSync(path, 'utf8')) as Partial<Owner>;
    return typeof owner.process === 'number' && typeof owner.host === 'string' ? (owner as Owner) : null;
  } catch {
    return emptyForLong(path) ? { process: 0, host: hostname() } : null;
  }
}

/** A process that dies between creating and writing leaves an unreadable lock, which counts as a dead owner's after 10 s. */
function emptyForLong(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > 10_000;
}

function isDead(owner: Owner): boolean {
  if (owner.host !== hostname()) return false;
  if (owner.process === 0) return true;
  try {
    process.kill(owner.process, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/**
 * Two processes may find the same dead owner; the slower must not delete the lock that the faster has just made. So the
 * look and the deletion happen under a second lock, held for an instant.
 */
function removeLockOfDead(path: string): void {
  const guard = `${path}.takeover`;
  if (!tryCreate(guard)) {
    const stat = statSync(guard, { throwIfNoEntry: false });
    if (stat && Date.now() - stat.mtimeMs > 10_000) rmSync(guard, { force: true });
    return;
  }
  try {
    const owner = readOwner(path);
    if (owner !== null && isDead(owner)) rmSync(path, { force: true });
  } finally {
    rmSync(guard, { force: true });
  }
}
