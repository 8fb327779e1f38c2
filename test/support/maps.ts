import { readFileSync, realpathSync } from 'node:fs';

/** How often a file is mapped into this process, by what Linux tells of it; deleted files count too. */
export function mapsOf(file: string): number {
  const path = realpathSync(file);
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(path)).length;
}
