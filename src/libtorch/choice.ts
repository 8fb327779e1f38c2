/** The LibTorch that someone has asked for by `kontrast setup --cuda`: it goes before those that are merely there. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../torch/files';
import type { LibTorchSource } from './locate';

/** What is kept in the cache folder. */
export interface LibTorchChoice {
  /** The folder with `lib/` and `include/`. */
  root: string;
  /** The place where it was found. */
  source: LibTorchSource;
}

/** The file of the choice. */
export function choicePath(cache: string): string {
  return join(cache, 'chosen.json');
}

/** The choice; null when none was made or it can't be read. Takes one look at a small file. */
export function readChoice(cache: string): LibTorchChoice | null {
  try {
    const { root, source } = JSON.parse(readFileSync(choicePath(cache), 'utf8')) as Partial<LibTorchChoice>;
    return typeof root === 'string' && (source === 'python' || source === 'cache') ? { root, source } : null;
  } catch {
    return null;
  }
}

/** Keeps a choice. */
export function writeChoice(cache: string, { root, source }: LibTorchChoice): void {
  mkdirSync(cache, { recursive: true });
  writeFileAtomic(choicePath(cache), `${JSON.stringify({ root, source }, null, 2)}\n`);
}

/** Forgets the choice, and says whether there was one. */
export function removeChoice(cache: string): boolean {
  const was = readChoice(cache) !== null;
  rmSync(choicePath(cache), { force: true });
  return was;
}
