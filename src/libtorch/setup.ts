import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { writeFileAtomic } from '../torch/files';
import { cacheEntryName, cacheFolder, manifestName, type CacheManifest } from './cache';
import { downloadRequirements, downloadTorch, type DownloadOptions } from './download';
import { LibTorchNotFoundError, LibTorchSetupError } from './errors';
import { essentialLibraries, fileSize, libraryFile, readLibTorchFolder } from './folder';
import { ownPackageRoot, searchLibTorch, type LibTorch, type LocateOptions } from './locate';
import { withLock } from './lock';
import { readBuildRecord } from './record';
import { parseVersion, pinnedVersion } from './version';
import { listWheel, unpackWheel } from './wheel';

/** How LibTorch is set up. */
export interface SetupOptions extends Pick<LocateOptions, 'env' | 'packageRoot' | 'needsHeaders'> {
  /** Download into the cache folder even when some place has a LibTorch that fits. Default: false. */
  force?: boolean;
  /** A Python package index instead of pip's configured one. */
  indexUrl?: string;
  /**
   * Accept every minor release that the sources compile against, because the addon is about to be compiled. Default: false, which
   * means the minor release of the addon that is there.
   */
  forBuild?: boolean;
  /** Where lines of progress go. Default: standard output, together with pip's own output. */
  log?: (line: string) => void;
}

const temporaryPrefix = '.tmp-';

/**
 * Finds LibTorch, or downloads it into the cache folder with pip: the wheel of PyTorch, of which the libraries, the headers and the
 * licences are unpacked, each file checked against the wheel's record of hashes. The folder appears under its name in one
 * rename when all of it is on the disk; whatever goes wrong before leaves nothing behind that a later run would take for LibTorch.
 *
 * @returns where LibTorch is
 * @throws LibTorchSetupError when the download fails, is damaged, or another process holds the lock for too long
 * @throws LibTorchNotFoundError when `LIBTORCH` is set and can't be used: a download would not change that
 */
export async function setupLibTorch(options: SetupOptions = {}): Promise<LibTorch> {
  const { env = process.env, force = false, forBuild = false, needsHeaders = forBuild } = options;
  const log = options.log ?? ((line: string) => console.log(line));
  const record = forBuild ? null : readBuildRecord(options.packageRoot ?? ownPackageRoot);
  const builtFor = record ? parseVersion(record.libtorchVersion).minor : undefined;
  const search: LocateOptions = { env, packageRoot: options.packageRoot, builtFor, needsHeaders };

  if (!force || env.LIBTORCH) {
    const found = trySearch(search);
    if (found !== null) return announce(found, log);
  }

  const cache = cacheFolder(env);
  const version = record?.libtorchVersion ?? pinnedVersion;
  return withLock(
    cache,
    async () => {
      sweep(cache);
      if (!force) {
        // Another set-up may have finished while this one waited for the lock.
        const found = trySearch(search);
        if (found !== null) return announce(found, log);
      }
      const root = await downloadInto(cache, version, options, env, log);
      const folder = readLibTorchFolder(root);
      if ('refused' in folder) throw new LibTorchSetupError(`${root}: ${folder.refused}`, { code: 'LIBTORCH_DAMAGED' });
      return { ...folder, source: 'cache' as const };
    },
    { onWait: (owner) => log(`waiting for ${owner}, which is setting up LibTorch as well`) },
  );
}

/** The LibTorch that is there; `null` when a download can help. */
function trySearch(search: LocateOptions): LibTorch | null {
  try {
    return searchLibTorch(search);
  } catch (error) {
    if (error instanceof LibTorchNotFoundError && !search.env?.LIBTORCH) return null;
    throw error;
  }
}

function announce(found: LibTorch, log: (line: string) => void): LibTorch {
  log(`LibTorch ${found.version} (${found.variant}) found: ${found.root}`);
  return found;
}

/** Downloads, unpacks, checks and renames; returns the folder with `lib/` and `include/`. */
async function downloadInto(
  cache: string,
  version: string,
  options: SetupOptions,
  env: NodeJS.ProcessEnv,
  log: (line: string) => void,
): Promise<string> {
  const temporary = join(cache, `${temporaryPrefix}${process.pid}`);
  const wheels = join(temporary, 'wheels');
  const unpacked = join(temporary, 'libtorch');
  mkdirSync(unpacked, { recursive: true });
  try {
    const download: DownloadOptions = {
      version,
      destination: wheels,
      indexUrl: options.indexUrl,
      env,
      output: options.log ? 'ignore' : 'inherit',
    };
    log(`LibTorch ${version} is not here: downloading it with pip (some hundred megabytes)`);
    const torchWheel = await downloadTorch(download);
    const isCuda = (await listWheel(torchWheel)).includes(`torch/lib/${libraryFile('torch_cuda')}`);
    let all = [torchWheel];
    if (isCuda) {
      log('the package index offers the CUDA build: downloading the NVIDIA libraries that it needs (some gigabytes)');
      all = await downloadRequirements(torchWheel, download);
    }

    const manifest: CacheManifest = { format: 1, version, variant: '', wheels: [], files: 0, bytes: 0, libraries: {} };
    for (const wheel of all) {
      const includes = wheel === torchWheel ? isNeeded : isNvidiaLibrary;
      const paths = wheel === torchWheel ? null : (await listWheel(wheel)).filter(includes);
      if (paths !== null && !paths.some((path) => path.startsWith('nvidia/'))) continue;
      const result = await unpackWheel({
        wheel,
        destination: unpacked,
        includes,
        onProgress: progress(basename(wheel), log),
      });
      manifest.wheels.push(basename(wheel));
      manifest.files += result.files;
      manifest.bytes += result.bytes;
    }

    const root = join(unpacked, 'torch');
    const folder = readLibTorchFolder(root);
    if ('refused' in folder || folder.version !== version) {
      const wrong = 'refused' in folder ? folder.refused : `it is ${folder.version}`;
      throw new LibTorchSetupError(`${basename(torchWheel)} does not hold LibTorch ${version}: ${wrong}`, {
        code: 'LIBTORCH_DAMAGED',
      });
    }
    manifest.variant = folder.variant;
    for (const library of essentialLibraries) manifest.libraries[library] = fileSize(join(folder.lib, library));
    writeFileAtomic(join(unpacked, manifestName), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncFolder(unpacked);

    const final = join(cache, cacheEntryName(version, folder.variant));
    replaceFolder(unpacked, final, join(temporary, 'replaced'));
    await syncFolder(cache);
    log(`LibTorch ${version} (${folder.variant}) is ready: ${manifest.files} files, each checked, in ${final}`);
    return join(final, 'torch');
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Puts a finished folder in place; one of the same name, damaged or replaced on request, is moved out of the way first. */
function replaceFolder(finished: string, final: string, old: string): void {
  try {
    renameSync(finished, final);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'EPERM') throw error;
    renameSync(final, old);
    renameSync(finished, final);
  }
}

/** Deletes what set-ups that were interrupted have left; only the holder of the lock makes such folders, so all are stale. */
function sweep(cache: string): void {
  for (const name of readdirSync(cache)) {
    if (name.startsWith(temporaryPrefix)) rmSync(join(cache, name), { recursive: true, force: true });
  }
}

/** Of PyTorch's wheel: libraries, headers, CMake files, version and licences; not Python's side of it, and no test programs. */
export function isNeeded(path: string): boolean {
  if (/^[^/]+\.dist-info\//.test(path)) return true;
  if (path === 'torch/version.py') return true;
  if (path.startsWith('torch/include/') || path.startsWith('torch/share/')) return true;
  if (!path.startsWith('torch/lib/')) return false;
  return !/\/(lib)?(torch_python|shm|torchbind_test|jitbackend_test|backend_with_compiler|aoti_custom_ops)\b/.test(
    path,
  );
}

/** Of NVIDIA's wheels: the shared libraries and the licences. */
export function isNvidiaLibrary(path: string): boolean {
  return /^nvidia\/.*\/lib\/[^/]+$/.test(path) || /^[^/]+\.dist-info\//.test(path);
}

/** A line for every quarter of a big wheel; small wheels pass without one. */
function progress(name: string, log: (line: string) => void): (done: number, total: number) => void {
  let next = 1;
  return (done, total) => {
    if (total < 50e6 || done < (total * next) / 4) return;
    while (next < 5 && done >= (total * next) / 4) next++;
    log(`unpacking and checking ${name}: ${Math.round((100 * done) / total)}% of ${Math.round(total / 1e6)} MB`);
  };
}

async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
