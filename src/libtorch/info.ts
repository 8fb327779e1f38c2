import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './cache';
import { addonRelease } from './addon';
import { locateLibTorch, type LocateOptions, type LibTorch } from './locate';
import { ownPackageRoot } from './record';
import { pinnedVersion } from './version';

/** What can be told without loading the addon; `kontrast info` prints it before what LibTorch itself reports. */
export interface LibTorchInfo {
  /** Version of kontrast. */
  kontrast: string;
  /** Version of Node.js, as `v20.20.2`. */
  node: string;
  /** Platform and processor, as `linux-x64`. */
  platform: string;
  /** The LibTorch release that kontrast is developed with. */
  pinned: string;
  /** The LibTorch release that the addon was built for; `null` when no build left a record. */
  builtFor: string | null;
  /** The LibTorch that is used. */
  libtorch: LibTorch;
  /** The folder that downloads go to. */
  cache: string;
}

/**
 * Gathers versions and places.
 *
 * @throws LibTorchNotFoundError when there is no LibTorch that fits
 */
export function libtorchInfo(options: LocateOptions = {}): LibTorchInfo {
  const { env = process.env, packageRoot = ownPackageRoot } = options;
  const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  return {
    kontrast: manifest.version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    pinned: pinnedVersion,
    builtFor: addonRelease(packageRoot) ?? null,
    libtorch: locateLibTorch(options),
    cache: cacheFolder(env),
  };
}
