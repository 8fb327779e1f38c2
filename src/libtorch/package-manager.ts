import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A program that installs npm packages. */
export type PackageManager = 'npm' | 'pnpm' | 'yarn' | 'bun';

const lockFiles: readonly (readonly [string, PackageManager])[] = [
  ['pnpm-lock.yaml', 'pnpm'],
  ['yarn.lock', 'yarn'],
  ['.pnp.cjs', 'yarn'],
  ['bun.lock', 'bun'],
  ['bun.lockb', 'bun'],
  ['package-lock.json', 'npm'],
];

/**
 * The package manager of the project around a folder: by the lock file in it or above it, else by what started this process, else npm.
 */
export function packageManager(folder: string = process.cwd(), env: NodeJS.ProcessEnv = process.env): PackageManager {
  for (let place = folder; ; place = dirname(place)) {
    const found = lockFiles.find(([file]) => existsSync(join(place, file)));
    if (found !== undefined) return found[1];
    if (dirname(place) === place) break;
  }
  const agent = /^(npm|pnpm|yarn|bun)\//.exec(env.npm_config_user_agent ?? '')?.[1];
  return (agent as PackageManager | undefined) ?? 'npm';
}

/** The command that adds packages which the project may do without, and installs them although it was told to leave such out. */
export function installCommand(manager: PackageManager, packages: readonly string[]): string {
  const names = packages.join(' ');
  switch (manager) {
    case 'npm':
      return `npm install --save-optional --include=optional ${names}`;
    case 'pnpm':
      return `pnpm add --save-optional ${names}`;
    case 'yarn':
      return `yarn add --optional ${names}`;
    case 'bun':
      return `bun add --optional ${names}`;
  }
}
