import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { essentialLibraries, fileSize } from './folder';
import { compareReleases } from './version';

/** Written last into an unpacked LibTorch; a folder without it was never finished. */
export interface CacheManifest {
  /** Version of this format. */
  format: 1;
  /** The release, such as `2.13.0`. */
  version: string;
  /** `cpu`, `cu130`, … */
  variant: string;
  /** File names of the wheels that were unpacked. */
  wheels: string[];
  /** How many files were unpacked; each was checked against its wheel's record of hashes. */
  files: number;
  /** Their bytes, in all. */
  bytes: number;
  /** Size in bytes of each library that nothing works without. */
  libraries: Record<string, number>;
}

/** The name of the manifest inside an entry of the cache. */
export const manifestName = 'manifest.json';

/** The folder for what kontrast downloads: `$KONTRAST_CACHE`, `$XDG_CACHE_HOME/kontrast` or `~/.cache/kontrast`. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.KONTRAST_CACHE) return resolve(env.KONTRAST_CACHE);
  if (env.XDG_CACHE_HOME) return resolve(env.XDG_CACHE_HOME, 'kontrast');
  return join(env.HOME || homedir(), '.cache', 'kontrast');
}

/** The name of a LibTorch inside the cache folder. */
export function cacheEntryName(version: string, variant: string): string {
  return `libtorch-${version}-${variant}`;
}

/** One LibTorch in the cache folder. */
export interface CacheEntry {
  /** The folder that `setup` renamed into place. */
  folder: string;
  /** The folder with `lib/` and `include/`, inside it. */
  root: string;
  version: string;
}

/** The LibTorch folders in the cache; `preferred` first, then the newest first. */
export function listCache(cache: string, preferred: string): CacheEntry[] {
  let names: string[];
  try {
    names = readdirSync(cache);
  } catch {
    return [];
  }
  const entries: CacheEntry[] = [];
  for (const name of names.sort()) {
    const version = /^libtorch-(\d+\.\d+\.\d+)-[^-]+$/.exec(name)?.[1];
    if (version === undefined) continue;
    const folder = join(cache, name);
    entries.push({ folder, root: join(folder, 'torch'), version });
  }
  const rank = (entry: CacheEntry) => (entry.version === preferred ? 0 : 1);
  return entries.sort((a, b) => rank(a) - rank(b) || compareReleases(b.version, a.version));
}

/** Why an entry of the cache can't be trusted, or `null` when its manifest and its libraries agree. */
export function refuseCacheEntry(entry: CacheEntry): string | null {
  let manifest: CacheManifest;
  try {
    manifest = JSON.parse(readFileSync(join(entry.folder, manifestName), 'utf8')) as CacheManifest;
  } catch {
    return 'it was not finished (no manifest)';
  }
  for (const library of essentialLibraries) {
    const size = fileSize(join(entry.root, 'lib', library));
    if (size !== manifest.libraries?.[library]) {
      return `lib/${library} is damaged (${size < 0 ? 'missing' : `${size} bytes`}, not ${manifest.libraries?.[library]} bytes)`;
    }
  }
  return null;
}
