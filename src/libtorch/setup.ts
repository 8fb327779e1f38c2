import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidArgumentError } from '../torch/errors';
import { writeFileAtomic } from '../torch/files';
import { addonBuiltFor, addonRelease } from './addon';
import { pytorchIndexUrl } from './addresses';
import { formatBytes } from './bytes';
import { cacheEntryName, cacheFolder, manifestName, refuseCacheEntry, type CacheManifest } from './cache';
import { removeChoice, writeChoice } from './choice';
import { isNeeded, isNvidiaLibrary } from './contents';
import { chooseCudaBuild, cudaBuildsOf, refuseCudaBuild, refuseCudaVersion, type CudaMachine } from './cuda-builds';
import { findCudaDriver, type CudaDriver, type DriverOptions } from './cuda-driver';
import { LineProgress, type DownloadProgress } from './download-progress';
import { LibTorchNotFoundError, LibTorchSetupError } from './errors';
import { essentialLibraries, fileSize, readLibTorchFolder, type LibTorchFolder } from './folder';
import type { HttpOptions } from './http';
import { searchLibTorch, type LibTorch, type LocateOptions } from './locate';
import { withLock } from './lock';
import { indexSource, wheelSources, type IndexedWheel } from './package-index';
import { packageSources, type PackageSources } from './pip-config';
import { findPythonTorch, pythonCommand } from './python';
import { ownPackageRoot } from './record';
import { resolveWheels, type Resolution } from './resolve-wheels';
import { bytesHere, downloadFile } from './resumable-download';
import { checkSpace, describePlan, freeBytesAt, isLocal, makePlan, type SetupPlan } from './setup-plan';
import { parseVersion, pinnedVersion, refuseVersion } from './version';
import { listWheel, unpackWheel } from './wheel';
import { ownTarget } from './wheel-name';
import { WheelReader } from './wheel-reader';

/** How LibTorch is set up. */
export interface SetupOptions extends Pick<LocateOptions, 'env' | 'packageRoot' | 'needsHeaders'> {
  /** Set up a build with CUDA, which is then used before any other LibTorch that is there. Default: false. */
  cuda?: boolean;
  /** The build with CUDA, such as `cu126`, instead of the one that suits this machine's driver and GPUs. Implies `cuda`. */
  variant?: string;
  /** Forget a build with CUDA that was set up, so that the usual order of places holds again. Default: false. */
  cpu?: boolean;
  /** Download into the cache folder even when some place has a LibTorch that fits. Default: false. */
  force?: boolean;
  /** A Python package index instead of the one that pip is configured with. */
  indexUrl?: string;
  /** A folder with all wheels that are needed: nothing is downloaded then. */
  wheels?: string;
  /**
   * Accept every minor release that the sources compile against, because the addon is about to be compiled. Default: false, which
   * means the minor release of the addon that is there.
   */
  forBuild?: boolean;
  /** Shown what would be downloaded before it is; false ends the set-up. Default: lines of the plan, and yes. */
  confirm?: (plan: SetupPlan) => Promise<boolean>;
  /** Shows how far the download is. Default: a line for every tenth. */
  progress?: DownloadProgress;
  /** Where lines of progress go. Default: standard output. */
  log?: (line: string) => void;
  /** How patient requests are; there for tests. */
  network?: HttpOptions;
  /** How the driver is looked for; there for tests. */
  driver?: DriverOptions;
}

const temporaryPrefix = '.tmp-';

/** What a set-up works with, put together from its options. */
interface Context {
  options: SetupOptions;
  env: NodeJS.ProcessEnv;
  log: (line: string) => void;
  cache: string;
  /** Wheels on their way; they outlive an interrupted set-up. */
  downloads: string;
  /** The release that would be downloaded. */
  version: string;
  search: LocateOptions;
  machine: CudaMachine;
  wantsCuda: boolean;
  /** Where wheels come from. */
  places: PackageSources;
  http: HttpOptions;
  reader: WheelReader;
}

function contextOf(options: SetupOptions): Context {
  const {
    env = process.env,
    forBuild = false,
    needsHeaders = forBuild,
    packageRoot = ownPackageRoot,
    variant,
  } = options;
  const wantsCuda = options.cuda === true || variant !== undefined;
  if (variant !== undefined && !/^cu\d{3}$/.test(variant)) {
    throw new InvalidArgumentError(`'${variant}' is no build with CUDA; they have names such as cu126 and cu130`);
  }
  if (wantsCuda && options.cpu === true) throw new InvalidArgumentError('name either CUDA or the CPU, not both');
  if (wantsCuda && process.platform === 'darwin') {
    throw new LibTorchSetupError('there is no CUDA on macOS; kontrast setup fetches a LibTorch for the CPU', {
      code: 'LIBTORCH_CUDA',
    });
  }
  const cache = cacheFolder(env);
  const builtFor = forBuild ? undefined : addonBuiltFor(packageRoot);
  const places = packageSources({ env, indexUrl: options.indexUrl, wheels: options.wheels });
  const http: HttpOptions = { env, certificates: places.certificates, ...options.network };
  return {
    options,
    env,
    log: options.log ?? ((line) => console.log(line)),
    cache,
    downloads: join(cache, 'downloads'),
    version: (forBuild ? undefined : addonRelease(packageRoot)) ?? pinnedVersion,
    search: { env, packageRoot: options.packageRoot, builtFor, needsHeaders },
    machine: { platform: process.platform, arch: process.arch },
    wantsCuda,
    places,
    http,
    reader: new WheelReader(http),
  };
}

/**
 * Finds LibTorch, or downloads it into the cache folder: the wheel of PyTorch and, for a build with CUDA, the wheels with NVIDIA's
 * libraries, of which the libraries, the headers and the licences are unpacked, each file checked against its wheel's record of hashes.
 * Python and pip are not needed; pip's settings say where wheels come from. The folder appears under its name in one rename when
 * all of it is on the disk. What an interrupted set-up has downloaded is gone on with by the next.
 *
 * @returns where LibTorch is
 * @throws LibTorchSetupError when the download fails, is damaged, does not fit on the disk or is declined, when no build with CUDA suits
 *   this machine, or when another process holds the lock for too long
 * @throws LibTorchNotFoundError when `LIBTORCH` is set and can't be used: a download would not change that
 */
export async function setupLibTorch(options: SetupOptions = {}): Promise<LibTorch> {
  const context = contextOf(options);
  const { cache, log, env } = context;
  const { force = false } = options;
  if (options.cpu === true && removeChoice(cache)) log('the build with CUDA is no longer preferred');
  const variant = context.wantsCuda && !env.LIBTORCH ? chooseVariant(context) : 'cpu';
  if (!force || env.LIBTORCH) {
    const found = find(variant, context);
    if (found !== null) return announce(found, context);
  }
  return withLock(
    cache,
    async () => {
      sweep(cache);
      if (!force) {
        // Another set-up may have finished while this one waited for the lock; what was refused was told before.
        const found = find(variant, { ...context, log: () => undefined });
        if (found !== null) return announce(found, context);
      }
      const root = await downloadAndUnpack(variant, context);
      const folder = readLibTorchFolder(root);
      if ('refused' in folder) throw new LibTorchSetupError(`${root}: ${folder.refused}`, { code: 'LIBTORCH_DAMAGED' });
      if (context.wantsCuda) writeChoice(cache, { root, source: 'cache' });
      return { ...folder, source: 'cache' as const };
    },
    { onWait: (owner) => log(`waiting for ${owner}, which is setting up LibTorch as well`) },
  );
}

/**
 * What {@link setupLibTorch} would download, or the LibTorch that it would find. Changes nothing.
 *
 * @throws as {@link setupLibTorch}, as far as it can be known before
 */
export async function planSetup(options: SetupOptions = {}): Promise<{ found: LibTorch } | { plan: SetupPlan }> {
  const context = contextOf(options);
  const variant = context.wantsCuda && !context.env.LIBTORCH ? chooseVariant(context) : 'cpu';
  const found = options.force === true && !context.env.LIBTORCH ? null : find(variant, context);
  return found !== null ? { found } : { plan: (await prepare(variant, context)).plan };
}

/**
 * Downloads the wheels that {@link setupLibTorch} needs into a folder, for a machine without a network: there, `wheels` names that
 * folder. Nothing is unpacked.
 *
 * @returns the paths of the wheels
 * @throws LibTorchSetupError when the download fails
 */
export async function downloadWheels(folder: string, options: SetupOptions = {}): Promise<string[]> {
  const context = { ...contextOf(options), downloads: resolve(folder) };
  const variant = context.wantsCuda ? chooseVariant(context) : 'cpu';
  mkdirSync(context.downloads, { recursive: true });
  const { resolution, plan } = await prepare(variant, context, true);
  const here = { ...plan, installedBytes: 0, folder: context.downloads, freeBytes: freeBytesAt(context.downloads) };
  checkSpace(here);
  await confirm(here, context);
  const paths = await downloadAll(resolution.wheels, plan, context);
  return paths.map((path) => {
    const copy = join(context.downloads, basename(path));
    if (path !== copy) copyFileSync(path, copy);
    return copy;
  });
}

/** The build with CUDA that was named, or the one for this machine's driver. */
function chooseVariant({ options, version, machine, env, log }: Context): string {
  const search = findCudaDriver({ env, ...options.driver });
  if (options.variant === undefined) {
    const { variant, cuda } = chooseCudaBuild(version, search, machine);
    if ('driver' in search) {
      const { driver } = search;
      const gpus = [...new Set(driver.gpus.map(({ name }) => name))].join(', ');
      log(
        `driver ${driver.version}${gpus === '' ? '' : ` for ${gpus}`} supports CUDA ${driver.cuda}: taking the build with CUDA ${cuda}`,
      );
      warnOf(variant, version, driver, machine, log);
    }
    return variant;
  }
  if ('driver' in search) warnOf(options.variant, version, search.driver, machine, log);
  return options.variant;
}

function warnOf(
  variant: string,
  version: string,
  driver: CudaDriver,
  machine: CudaMachine,
  log: (line: string) => void,
): void {
  const build = cudaBuildsOf(version).find((candidate) => candidate.variant === variant);
  if (build === undefined) return;
  for (const reason of refuseCudaBuild(build, driver, machine)) log(`warning: ${reason}`);
}

/** The LibTorch that is there; `null` when a download can help. */
function find(variant: string, context: Context): LibTorch | null {
  const { search, wantsCuda, env } = context;
  if (wantsCuda && !env.LIBTORCH) return findCuda(variant, context);
  let found: LibTorch;
  try {
    found = searchLibTorch(search);
  } catch (error) {
    if (error instanceof LibTorchNotFoundError && !env.LIBTORCH) return null;
    throw error;
  }
  if (wantsCuda && !found.hasCuda) {
    throw new LibTorchSetupError(
      `LIBTORCH is set (${found.root}), which goes before every other place, and names a build without CUDA. ` +
        'Unset it, or name a build with CUDA there.',
      { code: 'LIBTORCH_CUDA' },
    );
  }
  return found;
}

/** A build with CUDA in the cache folder, or Python's when it fits. */
function findCuda(variant: string, context: Context): LibTorch | null {
  const { cache, version, env, log } = context;
  const folder = join(cache, cacheEntryName(version, variant));
  const root = join(folder, 'torch');
  if (existsSync(folder) && refuseCacheEntry({ folder, root, version }) === null) {
    const cached = readLibTorchFolder(root);
    if (!('refused' in cached)) return { ...cached, source: 'cache' };
  }
  const python = findPythonTorch(env);
  if ('refused' in python) return null;
  const torch = readLibTorchFolder(python.root);
  const reason = 'refused' in torch ? torch.refused : refusePythonTorch(torch, variant, context);
  if (reason === null) return { ...(torch as LibTorchFolder), source: 'python' };
  log(`the torch of ${pythonCommand} (${python.root}) is not taken: ${reason}`);
  return null;
}

/** Why Python's torch is not the build with CUDA that is wanted, or null. */
function refusePythonTorch(
  torch: LibTorchFolder,
  wanted: string,
  { options, search, env, machine }: Context,
): string | null {
  const wrongVersion = refuseVersion(parseVersion(torch.version), search.builtFor);
  if (wrongVersion !== null) return wrongVersion;
  if (!torch.hasCuda) return 'it has no CUDA';
  if (search.needsHeaders === true && !torch.hasHeaders) return 'its headers are missing';
  if (torch.variant === wanted) return null;
  if (options.variant !== undefined) return `it is the build ${torch.variant}, not ${wanted}`;
  const driver = findCudaDriver({ env, ...options.driver });
  if ('looked' in driver || torch.cudaVersion === undefined) return null;
  const build = cudaBuildsOf(torch.version).find(({ variant }) => variant === torch.variant);
  if (build === undefined) return refuseCudaVersion(torch.cudaVersion, driver.driver, machine);
  return refuseCudaBuild(build, driver.driver, machine)[0] ?? null;
}

function announce(found: LibTorch, { log, wantsCuda, env, cache }: Context): LibTorch {
  log(`LibTorch ${found.version} (${found.variant}) found: ${found.root}`);
  if (wantsCuda && !env.LIBTORCH) writeChoice(cache, found);
  return found;
}

/** Finds the wheels and puts the plan together. */
async function prepare(
  variant: string,
  context: Context,
  mayFetch = false,
): Promise<{ resolution: Resolution; plan: SetupPlan }> {
  const { version, cache, downloads, places, http, reader, log, machine } = context;
  // PyTorch's own index has nothing for macOS that the public one lacks.
  const hasOwnIndex = places.mayUsePytorchIndex && machine.platform !== 'darwin';
  const fetchWhole = async (wheel: IndexedWheel): Promise<string> => {
    const size = wheel.size === null ? '' : ` (${formatBytes(wheel.size)})`;
    log(`${wheel.fileName}${size} is downloaded first: its server shows what it requires only with the whole file`);
    mkdirSync(downloads, { recursive: true });
    return downloadFile(wheel, downloads, http);
  };
  const resolution = await resolveWheels({
    version,
    variant,
    target: ownTarget(),
    sources: wheelSources(places, http),
    lastResort: hasOwnIndex ? indexSource(pytorchIndexUrl(variant), http) : null,
    reader,
    ...(mayFetch ? { fetchWhole } : {}),
  });
  if (variant === 'cpu' && resolution.variant !== 'cpu') {
    log('no build for the CPU alone was found; the one with CUDA computes on the CPU as well, but it is big');
  }
  const folder = join(cache, cacheEntryName(version, resolution.variant));
  return { resolution, plan: await makePlan(version, resolution, { reader, downloads, folder }) };
}

async function confirm(plan: SetupPlan, { options, log }: Context): Promise<void> {
  if (options.confirm === undefined) describePlan(plan).forEach(log);
  else if (!(await options.confirm(plan))) {
    throw new LibTorchSetupError('nothing was set up: the download was declined', { code: 'LIBTORCH_DECLINED' });
  }
}

/** The paths of all wheels: of those on this machine where they are, of the others in the folder of downloads. */
async function downloadAll(wheels: readonly IndexedWheel[], plan: SetupPlan, context: Context): Promise<string[]> {
  const { downloads, http, options, log } = context;
  const remote = wheels.filter((wheel) => !isLocal(wheel));
  if (remote.length > 0) mkdirSync(downloads, { recursive: true });
  const here = new Map(remote.map((wheel) => [wheel, bytesHere(downloads, wheel)]));
  const sum = () => [...here.values()].reduce((a, b) => a + b, 0);
  const progress = options.progress ?? new LineProgress(log);
  const total = plan.wheels.reduce((bytes, wheel) => bytes + (isLocal(wheel) ? 0 : (wheel.size ?? 0)), 0);
  const paths: string[] = [];
  if (remote.length > 0) progress.start(total, sum());
  try {
    for (const wheel of wheels) {
      if (isLocal(wheel)) {
        paths.push(fileURLToPath(wheel.url));
        continue;
      }
      const path = await downloadFile(wheel, downloads, http, (bytes) => {
        here.set(wheel, bytes);
        progress.update(sum());
      });
      paths.push(path);
    }
  } finally {
    if (remote.length > 0) progress.stop();
  }
  return paths;
}

/** Downloads, unpacks, checks and renames; returns the folder with `lib/` and `include/`. */
async function downloadAndUnpack(variant: string, context: Context): Promise<string> {
  const { cache, downloads, version, wantsCuda, log } = context;
  const { resolution, plan } = await prepare(variant, context, true);
  checkSpace(plan);
  await confirm(plan, context);
  const paths = await downloadAll(resolution.wheels, plan, context);

  const temporary = join(cache, `${temporaryPrefix}${process.pid}`);
  const unpacked = join(temporary, 'libtorch');
  mkdirSync(unpacked, { recursive: true });
  try {
    const manifest: CacheManifest = { format: 1, version, variant: '', wheels: [], files: 0, bytes: 0, libraries: {} };
    const torchName = resolution.torch.fileName;
    for (const wheel of paths) {
      const includes = basename(wheel) === torchName ? isNeeded : isNvidiaLibrary;
      // What has nothing but licences (`cuda-toolkit` only names others) is left out.
      const hasContent = (await unpacking(wheel, context, () => listWheel(wheel))).some(
        (path) => includes(path) && !path.includes('.dist-info/'),
      );
      if (!hasContent && includes === isNvidiaLibrary) continue;
      const result = await unpacking(wheel, context, () =>
        unpackWheel({ wheel, destination: unpacked, includes, onProgress: progress(basename(wheel), log) }),
      );
      manifest.wheels.push(basename(wheel));
      manifest.files += result.files;
      manifest.bytes += result.bytes;
    }

    const folder = readLibTorchFolder(join(unpacked, 'torch'));
    let wrong: string | null = null;
    if ('refused' in folder) wrong = folder.refused;
    else if (folder.version !== version) wrong = `it is ${folder.version}`;
    else if (wantsCuda && folder.variant !== variant) wrong = `it is the build ${folder.variant}`;
    if ('refused' in folder || wrong !== null) {
      paths.forEach((path) => forget(path, context));
      throw new LibTorchSetupError(
        `${torchName} does not hold LibTorch ${version}${wantsCuda ? ` (${variant})` : ''}: ${wrong}`,
        { code: 'LIBTORCH_DAMAGED' },
      );
    }
    manifest.variant = folder.variant;
    for (const library of essentialLibraries) manifest.libraries[library] = fileSize(join(folder.lib, library));
    writeFileAtomic(join(unpacked, manifestName), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncFolder(unpacked);

    const final = join(cache, cacheEntryName(version, folder.variant));
    replaceFolder(unpacked, final, join(temporary, 'replaced'));
    await syncFolder(cache);
    // Parts of wheels that another set-up began, and that nobody will ask for, go as well.
    rmSync(downloads, { recursive: true, force: true });
    log(`LibTorch ${version} (${folder.variant}) is ready: ${manifest.files} files, each checked, in ${final}`);
    return join(final, 'torch');
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Reads a wheel; one that was downloaded and turns out to be damaged is deleted, so that the next try fetches it anew. */
async function unpacking<T>(wheel: string, context: Context, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof LibTorchSetupError && error.code === 'LIBTORCH_DAMAGED') forget(wheel, context);
    throw error;
  }
}

/** Deletes a wheel that was downloaded; those of other people's folders stay. */
function forget(wheel: string, { downloads }: Context): void {
  if (dirname(wheel) === downloads) rmSync(wheel, { force: true });
  removeEmpty(downloads);
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It was never made, or parts of other wheels are in it.
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
