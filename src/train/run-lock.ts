/**
 * Keeps a second process out of a run's folder.
 *
 * Who trains there has an empty file in it, `lock.<host>.<process>.<start>`. A process first makes its own file and then looks for
 * others, so of two that come at once at least one sees the other. Names are never used twice, so the file of a process that has died
 * can be removed by anyone at any time.
 */
import * as fs from 'node:fs';
import { hostname } from 'node:os';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KontrastError } from '../torch/errors';

/** Two that come at once see each other and step back, for random times; then one is first. */
const ATTEMPTS = 4;

interface Owner {
  /** The machine's name, as {@link hostPart} gives it. */
  host: string;
  process: number;
  /** When the process was started, in the kernel's clock: a later process can have the same number. */
  start: string;
}

/** A run's folder, held by this process until {@link RunLock.release}. */
export class RunLock {
  private constructor(
    private readonly file: string,
    /** The topmost folder that was made to put the file in. */
    private readonly made: string | undefined,
  ) {}

  /**
   * Takes a folder, and makes it when it is not there. What processes that have died left behind is removed.
   *
   * @throws {KontrastError} code `RUN_LOCKED`: another process trains there; names it.
   */
  static async take(folder: string): Promise<RunLock> {
    for (let attempt = 1; ; attempt++) {
      const lock = RunLock.create(folder);
      const other = lock === null ? ownName() : findOther(folder);
      if (other === null) return lock!;
      lock?.release();
      if (attempt === ATTEMPTS) throw lockedError(folder, other);
      await sleep(20 + 80 * Math.random());
    }
  }

  /** Lets the folder go, and removes it when it was made for the lock and has stayed empty. */
  release(): void {
    fs.rmSync(this.file, { force: true });
    if (this.made === undefined) return;
    try {
      for (let folder = path.dirname(this.file); ; folder = path.dirname(folder)) {
        fs.rmdirSync(folder);
        if (folder === this.made) return;
      }
    } catch {
      // It holds a run now.
    }
  }

  /** Null when this very process holds the folder already. */
  private static create(folder: string): RunLock | null {
    const file = path.join(folder, ownName());
    for (;;) {
      const made = fs.mkdirSync(folder, { recursive: true });
      try {
        fs.closeSync(fs.openSync(file, 'wx'));
        return new RunLock(file, made);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EEXIST') return null;
        if (code !== 'ENOENT') throw error; // Another process that was refused has just removed the folder that it made.
      }
    }
  }
}

/** Whether a file of that name is a lock. */
export function isLockFile(name: string): boolean {
  return parseName(name) !== null;
}

/** The name of the lock of a process on this machine. */
export function lockName(pid: number): string {
  return `lock.${hostPart()}.${pid}.${readProcess(pid)?.start ?? '0'}`;
}

/** This machine's name, as file names have it. */
function hostPart(): string {
  return hostname().replace(/[^\w.-]/g, '_');
}

function ownName(): string {
  return lockName(process.pid);
}

function parseName(name: string): Owner | null {
  const [, host, pid, start] = /^lock\.(.+)\.(\d+)\.(\d+)$/.exec(name) ?? [];
  if (host === undefined || pid === undefined || start === undefined) return null;
  return { host, process: Number(pid), start };
}

/** The lock of another process that may be alive; those of dead ones are removed. */
function findOther(folder: string): string | null {
  let other: string | null = null;
  for (const name of fs.readdirSync(folder)) {
    const owner = parseName(name);
    if (owner === null || name === ownName()) continue;
    if (isDead(owner)) fs.rmSync(path.join(folder, name), { force: true });
    else other = name;
  }
  return other;
}

function isDead(owner: Owner): boolean {
  if (owner.host !== hostPart()) return false; // Only its own machine could tell.
  try {
    process.kill(owner.process, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true;
  }
  const found = readProcess(owner.process);
  return found !== null && (found.isZombie || found.start !== owner.start);
}

/** What Linux says of a process; null elsewhere, and for a process that is not shown to this user. */
function readProcess(pid: number): { start: string; isZombie: boolean } | null {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name, in brackets, may have spaces and brackets of its own; the state is the first field after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { start: fields[19]!, isZombie: fields[0] === 'Z' };
  } catch {
    return null;
  }
}

function lockedError(folder: string, name: string): KontrastError {
  const { host, process } = parseName(name)!;
  const isHere = host === hostPart();
  return new KontrastError(
    `process ${process}${isHere ? '' : ` on ${host}`} is training into '${folder}': wait until it is done, or choose another folder ` +
      `with --out${isHere ? '' : `; if it is not at work any more, delete '${path.join(folder, name)}'`}`,
    { code: 'RUN_LOCKED' },
  );
}
