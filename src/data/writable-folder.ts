import * as fs from 'node:fs';
import * as path from 'node:path';

/**
 * Why files cannot be written into a folder that is there or would have to be made; null when they can. It is tried, since modes
 * alone say too little (read-only and network file systems, a full disk); nothing is left behind.
 */
export function unwritableReason(folder: string): string | null {
  // Up to the folder that is there. A recursive mkdir is no way to find out: under /proc, Node's never returns.
  for (let existing = path.resolve(folder); ; existing = path.dirname(existing)) {
    try {
      if (!fs.statSync(existing).isDirectory()) return `'${existing}' is not a folder`;
      fs.rmdirSync(fs.mkdtempSync(path.join(existing, '.kontrast-')));
      return null;
    } catch (error) {
      const { code, syscall, message } = error as NodeJS.ErrnoException;
      const isAbsent = syscall === 'stat' && (code === 'ENOENT' || code === 'ENOTDIR');
      if (!isAbsent) return `${message.split(',')[0]} in '${existing}'`;
      if (code === 'ENOENT' && fs.lstatSync(existing, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
        return `'${existing}' is a link to what is not there`;
      }
    }
  }
}
