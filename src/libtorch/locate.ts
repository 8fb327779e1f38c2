import { dirname, resolve } from 'node:path';
import { cacheFolder, listCache, refuseCacheEntry } from './cache';
import { readChoice } from './choice';
import { LibTorchNotFoundError, type RefusedPlace } from './errors';
import { readLibTorchFolder, type LibTorchFolder } from './folder';
import { findPythonTorch, pythonCommand } from './python';
import { addonPackage, libtorchPackage, ownPlatform } from './platforms';
import { ownPackageRoot, readBuildRecord } from './record';
import { addonBuiltFor, resolvePackage } from './addon';
import { parseVersion, pinnedVersion, refuseVersion } from './version';

/** The place that a LibTorch was found in. */
export type LibTorchSource = 'environment' | 'package' | 'python' | 'cache';

/** A LibTorch that can be used, and where it was found. */
export interface LibTorch extends LibTorchFolder {
  source: LibTorchSource;
}

/** What a search depends on; all of it has defaults and is there for tests and for builds. */
export interface LocateOptions {
  /** Environment variables: `LIBTORCH`, `KONTRAST_CACHE`, `XDG_CACHE_HOME`, `PATH`. Default: this process's. */
  env?: NodeJS.ProcessEnv;
  /** The folder of kontrast's `package.json`. Default: the one this file belongs to. */
  packageRoot?: string;
  /** The minor release to insist on, such as `2.13`. Default: any that the sources compile against. */
  builtFor?: string;
  /** Whether the headers are needed, as they are to build the addon. Default: false. */
  needsHeaders?: boolean;
}

/** The npm package that would hold LibTorch for this platform. */
export const platformPackage = libtorchPackage(ownPlatform);

/**
 * Looks at every place, in this order: the folder named by `LIBTORCH`; what `kontrast setup --cuda` has chosen, until
 * `kontrast setup --cpu` forgets it; the npm platform package beside us; the `torch` that `python3` imports; kontrast's own cache
 * folder. The first that fits is taken. A `LIBTORCH` that does not fit is an error and not passed over, since someone asked for it
 * by name.
 *
 * @throws LibTorchNotFoundError when no place has a LibTorch that fits
 */
export function searchLibTorch(options: LocateOptions = {}): LibTorch {
  const tried: RefusedPlace[] = [];
  return takeChosen(options, tried) ?? search(options, tried);
}

/** What `kontrast setup --cuda` has chosen: it was asked for, and so goes before what is merely there. */
function takeChosen(options: LocateOptions, tried: RefusedPlace[]): LibTorch | null {
  const { env = process.env } = options;
  const choice = env.LIBTORCH ? null : readChoice(cacheFolder(env));
  if (choice === null) return null;
  const { root, source } = choice;
  const place = 'choice of kontrast setup --cuda';
  const damage = source === 'cache' ? refuseCacheEntry({ folder: dirname(root), root, version: '' }) : null;
  if (damage === null) return accept(source, place, root, options, tried);
  tried.push({ place, path: root, reason: damage });
  return null;
}

function search(options: LocateOptions, tried: RefusedPlace[]): LibTorch {
  const { env = process.env, packageRoot = ownPackageRoot } = options;
  const consider = (source: LibTorchSource, place: string, root: string): LibTorch | null =>
    accept(source, place, root, options, tried);

  if (env.LIBTORCH) {
    const found = consider('environment', 'LIBTORCH', resolve(env.LIBTORCH));
    if (found) return found;
    tried.push({ place: 'every other place', reason: 'not tried while LIBTORCH is set; correct or unset it' });
    throw new LibTorchNotFoundError(tried, options.builtFor);
  }
  tried.push({ place: 'LIBTORCH', reason: 'not set' });

  // The addon's package asks for it, and package managers that are strict let only that one see it.
  const addon = resolvePackage(addonPackage(ownPlatform), [packageRoot]);
  const packageFolder = resolvePackage(platformPackage, addon === null ? [packageRoot] : [addon, packageRoot]);
  if (packageFolder === null) tried.push({ place: `npm package ${platformPackage}`, reason: 'not installed' });
  else {
    const found = consider('package', `npm package ${platformPackage}`, packageFolder);
    if (found) return found;
  }

  const python = findPythonTorch(env);
  if ('refused' in python) tried.push({ place: `torch of ${pythonCommand}`, reason: python.refused });
  else {
    const found = consider('python', `torch of ${pythonCommand}`, python.root);
    if (found) return found;
  }

  const cache = cacheFolder(env);
  const entries = listCache(cache, pinnedVersion);
  if (entries.length === 0) tried.push({ place: 'cache folder', path: cache, reason: 'no LibTorch there' });
  for (const entry of entries) {
    const damage = refuseCacheEntry(entry);
    if (damage !== null) tried.push({ place: 'cache folder', path: entry.folder, reason: damage });
    else {
      const found = consider('cache', 'cache folder', entry.root);
      if (found) return found;
    }
  }
  throw new LibTorchNotFoundError(tried, options.builtFor);
}

/**
 * The LibTorch for the compiled addon, found without starting another process where possible: `LIBTORCH`, then what
 * `kontrast setup --cuda` has chosen, then the folder that the addon was built with while it is still there in the same minor release,
 * then the other places of {@link searchLibTorch}.
 *
 * @throws LibTorchNotFoundError when there is none of the minor release that the addon was built for
 */
export function locateLibTorch(options: LocateOptions = {}): LibTorch {
  const { env = process.env, packageRoot = ownPackageRoot } = options;
  const bound = { ...options, builtFor: options.builtFor ?? addonBuiltFor(packageRoot) };
  const record = readBuildRecord(packageRoot);
  const tried: RefusedPlace[] = [];
  const chosen = takeChosen(bound, tried);
  if (chosen) return chosen;
  if (record !== null && !env.LIBTORCH) {
    const found = accept(record.libtorchSource, 'where the build found it', record.libtorchRoot, bound, tried);
    if (found) return found;
  }
  return search(bound, tried);
}

/** The LibTorch in a folder when it fits; else notes why it does not. */
function accept(
  source: LibTorchSource,
  place: string,
  root: string,
  options: LocateOptions,
  tried: RefusedPlace[],
): LibTorch | null {
  const folder = readLibTorchFolder(root);
  if ('refused' in folder) {
    tried.push({ place, path: root, reason: folder.refused });
    return null;
  }
  const wrongVersion = refuseVersion(parseVersion(folder.version), options.builtFor);
  if (wrongVersion !== null) {
    tried.push({ place, path: root, reason: wrongVersion, version: folder.version });
    return null;
  }
  if (options.needsHeaders && !folder.hasHeaders) {
    tried.push({
      place,
      path: root,
      reason: 'its headers (include/ATen) are missing, and the addon is compiled with them',
    });
    return null;
  }
  return { ...folder, source };
}
