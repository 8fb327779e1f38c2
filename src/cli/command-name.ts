/** How the user's shell reaches this very command again, for messages that say what to type next. */
import * as fs from 'node:fs';
import * as path from 'node:path';

const ownRoot = path.resolve(__dirname, '..', '..');

/** Where the user's shell stands: npm runs a package's scripts in the package's folder and notes the shell's. */
export function shellFolder(env: NodeJS.ProcessEnv = process.env): string {
  return path.resolve(env.INIT_CWD ?? '.');
}

/**
 * The words that start this command in the user's shell: `npx kontrast` for a package that is installed above the shell's folder and for one
 * that npx fetched, `kontrast` for one on the PATH, otherwise Node with the command's file.
 */
export function commandName(env: NodeJS.ProcessEnv = process.env, root: string = ownRoot): string {
  if (env.npm_lifecycle_event === 'npx') return 'npx kontrast';
  const folder = shellFolder(env);
  const command = path.join(root, 'bin', 'kontrast.js');
  const isOnPath = (env.PATH ?? '')
    .split(path.delimiter)
    // npm puts these there for what it runs; the shell does not have them.
    .filter((each) => each !== '' && !/node_modules[\\/]\.bin[\\/]?$/.test(each))
    .some((each) => isSame(path.join(each, 'kontrast'), command));
  if (isOnPath) return 'kontrast';
  for (let each = folder; ; each = path.dirname(each)) {
    if (isSame(each, root) || isSame(path.join(each, 'node_modules', 'kontrast'), root)) return 'npx kontrast';
    if (each === path.dirname(each)) return `node ${shellPath(command, env)}`;
  }
}

/** A file's name as the user's shell takes it, the shorter way from where the shell stands. */
export function shellPath(file: string, env: NodeJS.ProcessEnv = process.env): string {
  const absolute = path.resolve(file);
  const relative = path.relative(shellFolder(env), absolute) || '.';
  const shown = relative.length < absolute.length ? relative : absolute;
  return /^[\w./:@%+=-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", `'\\''`)}'`;
}

function isSame(one: string, other: string): boolean {
  try {
    return fs.realpathSync(one) === fs.realpathSync(other);
  } catch {
    return false;
  }
}
