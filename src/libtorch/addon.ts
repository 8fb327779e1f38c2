import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { KontrastError } from '../torch/errors';
import { installCommand, packageManager } from './package-manager';
import { addonPackage, glibcVersion, libtorchPackage, ownPlatform, platforms } from './platforms';
import { ownPackageRoot, readBuildRecord } from './record';
import { parseVersion } from './version';

/** What a package with a compiled addon says of it, under `kontrast` in its `package.json`. */
export interface AddonRequirements {
  /** The LibTorch release that it was built with, such as `2.13.0`; it works with every release of the same minor version. */
  libtorch: string;
  /** The oldest GNU C library that it and LibTorch run on, such as `2.28`. */
  glibc?: string;
  /** What the processor must be able to do, as Linux names it in `/proc/cpuinfo`. */
  cpu?: readonly string[];
}

/** A compiled addon. */
export interface Addon {
  /** The folder of `kontrast.node` and `kontrast_loader.node`. */
  folder: string;
  /** `build`: compiled in this folder of kontrast's; `package`: from the npm package of this platform. */
  source: 'build' | 'package';
  /** The minor release of LibTorch that it was built for, such as `2.13`; null where no build left a record. */
  builtFor: string | null;
  /** What the package asks for; of a build, nothing is known. */
  requirements: AddonRequirements | null;
}

/** What finding the addon depends on; there for tests. */
export interface FindAddonOptions {
  /** The folder of kontrast's `package.json`. */
  packageRoot?: string;
  /** As in the names of packages. */
  platform?: string;
  /** The project, which tells the package manager. Default: the current folder. */
  project?: string;
  env?: NodeJS.ProcessEnv;
}

interface Manifest {
  name: string;
  version: string;
  kontrast?: AddonRequirements;
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

/**
 * The addon: what was compiled in kontrast's own folder, else the one in the npm package of this platform.
 *
 * @throws KontrastError (`ADDON_MISSING`, `ADDON_VERSION`) saying what was found, what was wanted and what to do
 */
export function findAddon(options: FindAddonOptions = {}): Addon {
  const { packageRoot = ownPackageRoot, platform = ownPlatform } = options;
  const build = join(packageRoot, 'build', 'Release');
  if (existsSync(join(build, 'kontrast.node'))) {
    const record = readBuildRecord(packageRoot);
    const builtFor = record === null ? null : parseVersion(record.libtorchVersion).minor;
    return { folder: build, source: 'build', builtFor, requirements: null };
  }
  const name = addonPackage(platform);
  const folder = resolvePackage(name, [packageRoot]);
  if (folder === null) throw missingAddon(packageRoot, platform, options);
  const own = readManifest(packageRoot).version;
  const { version, kontrast: requirements } = readManifest(folder);
  if (version !== own || requirements === undefined) {
    throw new KontrastError(
      `kontrast ${own} needs ${name} of the same version, but ${version} is installed (${folder}). ` +
        `Fix: ${fix([`${name}@${own}`], options)}`,
      { code: 'ADDON_VERSION' },
    );
  }
  return { folder, source: 'package', builtFor: parseVersion(requirements.libtorch).minor, requirements };
}

/** The LibTorch release that the addon was built with, such as `2.13.0`; undefined where there is no addon, or none that tells. */
export function addonRelease(packageRoot: string = ownPackageRoot): string | undefined {
  const record = readBuildRecord(packageRoot);
  if (record !== null) return record.libtorchVersion;
  const folder = resolvePackage(addonPackage(ownPlatform), [packageRoot]);
  return folder === null ? undefined : readManifest(folder).kontrast?.libtorch;
}

/** The minor release of {@link addonRelease}, such as `2.13`. */
export function addonBuiltFor(packageRoot: string = ownPackageRoot): string | undefined {
  const release = addonRelease(packageRoot);
  return release === undefined ? undefined : parseVersion(release).minor;
}

/** The folder of a package as seen from one of several folders, or null. */
export function resolvePackage(name: string, from: readonly string[]): string | null {
  try {
    const manifest = require.resolve(`${name}/package.json`, { paths: [...from] });
    // Node remembers where it found a file, also after that is gone.
    return existsSync(manifest) ? dirname(manifest) : null;
  } catch {
    return null;
  }
}

function fix(packages: readonly string[], { project, env }: FindAddonOptions): string {
  return installCommand(packageManager(project, env), packages);
}

function missingAddon(packageRoot: string, platform: string, options: FindAddonOptions): KontrastError {
  const name = addonPackage(platform);
  const error = (text: string): KontrastError => new KontrastError(text, { code: 'ADDON_MISSING' });
  // In a clone the addon is compiled, whatever the platform.
  if (existsSync(join(packageRoot, 'native', 'addon.cc'))) {
    const path = join(packageRoot, 'build', 'Release', 'kontrast.node');
    return error(`kontrast's addon is not built: ${path} is missing. Run \`npm run setup\` in kontrast's folder.`);
  }
  const known = platforms.map(({ id }) => id).join(', ');
  const source =
    'Build it from source: clone the repository, run `npm run setup` there, and install that folder instead of the package ' +
    '(docs/install.md).';
  if (!platforms.some(({ id }) => id === platform)) {
    return error(`kontrast has no prebuilt addon for ${platform}; there are those for ${known}. ${source}`);
  }
  if (platform === ownPlatform && process.platform === 'linux' && glibcVersion() === null) {
    return error(
      `kontrast's prebuilt addons for Linux need the GNU C library, and this system has another one (Alpine has musl). Use an image ` +
        `with glibc (Debian, Ubuntu, Fedora). LibTorch itself is not published for musl.`,
    );
  }
  const version = readManifest(packageRoot).version;
  const strangers = installedFor(packageRoot).filter((id) => id !== platform);
  const reason =
    strangers.length > 0
      ? `The one for ${strangers.join(', ')} is: node_modules was installed on, or copied from, another platform.`
      : 'Optional dependencies were left out (--omit=optional, --no-optional), or a lock file was written on another platform.';
  const packages = [`${name}@${version}`, `${libtorchPackage(platform)}@${version}`];
  return error(
    `kontrast's addon for this platform, the npm package ${name}, is not installed. ${reason}\nFix: ${fix(packages, options)}`,
  );
}

/** The platforms whose addons lie beside kontrast. */
function installedFor(packageRoot: string): string[] {
  const beside = join(packageRoot, '..', '@kontrast');
  if (!existsSync(beside)) return [];
  const names = new Set(readdirSync(beside));
  return platforms.map(({ id }) => id).filter((id) => names.has(id));
}
