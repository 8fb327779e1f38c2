/** The CUDA builds of PyTorch's releases, and which of them suits a machine. */
import type { CudaDriver, DriverSearch, Gpu } from './cuda-driver';
import { LibTorchSetupError } from './errors';
import { compareReleases, parseVersion } from './version';

/** One CUDA build, as PyTorch's table of releases has it. */
export interface CudaBuild {
  /** `cu130`. */
  variant: string;
  /** The CUDA that it was built with: `13.0`. */
  cuda: string;
  /** Whether PyTorch calls it experimental: such a build is taken only when it is named. */
  isExperimental: boolean;
  /** The oldest compute capability that it has machine code for, by processor. */
  oldest: { x64: string; arm64: string };
  /** The newest family of compute capabilities that it runs on. */
  newestMajor: number;
}

const cu126 = build('cu126', '5.0', '8.0', 9);
const cu130 = build('cu130', '7.5', '8.0', 12);
const cu132 = build('cu132', '7.5', '8.0', 12);

const builds: Record<string, readonly CudaBuild[]> = {
  '2.11': [cu130, build('cu128', '7.5', '8.0', 12), cu126],
  '2.12': [experimental(cu132), cu130, cu126],
  '2.13': [experimental(cu132), cu130, cu126],
  '2.14': [cu132, cu130, cu126],
};

/** The oldest driver for any CUDA of one major version: within it, newer toolkits run on older drivers. */
const minimumDrivers: Record<string, { linux: string; win32: string }> = {
  '12': { linux: '525.60.13', win32: '528.33' },
  '13': { linux: '580', win32: '580' },
};

function build(variant: string, x64: string, arm64: string, newestMajor: number): CudaBuild {
  const cuda = `${variant.slice(2, -1)}.${variant.slice(-1)}`;
  return { variant, cuda, isExperimental: false, oldest: { x64, arm64 }, newestMajor };
}

function experimental(stable: CudaBuild): CudaBuild {
  return { ...stable, isExperimental: true };
}

/** The CUDA builds of a release, the newest first; none for a release that is not known. */
export function cudaBuildsOf(version: string): readonly CudaBuild[] {
  return builds[parseVersion(version).minor] ?? [];
}

/** The machine that a build is chosen for. */
export interface CudaMachine {
  platform: NodeJS.Platform;
  arch: NodeJS.Architecture;
}

/**
 * Chooses the newest build for a driver and its GPUs. One whose CUDA the driver supports in full goes before one that only works because
 * it is of the same major version. Where no build suits all GPUs, one that suits some is taken.
 *
 * @throws LibTorchSetupError (`LIBTORCH_CUDA`) saying what was found and what each build needs
 */
export function chooseCudaBuild(version: string, search: DriverSearch, machine: CudaMachine): CudaBuild {
  const all = cudaBuildsOf(version);
  if ('looked' in search) throw noDriver(version, search.looked);
  const { driver } = search;
  const offered = all.filter(({ isExperimental }) => !isExperimental);
  const known = driver.gpus.filter(({ capability }) => capability !== null);
  const driven = offered.filter((candidate) => refuseDriver(candidate, driver, machine) === null);
  const full = driven.filter(({ cuda }) => compareReleases(cuda, driver.cuda) <= 0);
  const byDriver = [...full, ...driven.filter((candidate) => !full.includes(candidate))];
  const suits = (candidate: CudaBuild) => (gpu: Gpu) => refuseGpu(candidate, gpu, machine) === null;
  const best =
    byDriver.find((candidate) => known.every(suits(candidate))) ??
    byDriver.find((candidate) => known.some(suits(candidate)));
  if (best === undefined) throw noBuild(version, offered, driver, machine);
  return best;
}

/** Why a build does not work with a driver and its GPUs; empty when nothing speaks against it. */
export function refuseCudaBuild(candidate: CudaBuild, driver: CudaDriver, machine: CudaMachine): string[] {
  const reasons = [
    refuseDriver(candidate, driver, machine),
    ...driver.gpus.map((gpu) => refuseGpu(candidate, gpu, machine)),
  ];
  return reasons.filter((reason) => reason !== null);
}

/** Why a LibTorch with some CUDA, such as a Python torch, does not work with a driver, or null. */
export function refuseCudaVersion(cuda: string, driver: CudaDriver, machine: CudaMachine): string | null {
  return refuseDriver({ cuda }, driver, machine);
}

function refuseDriver({ cuda }: Pick<CudaBuild, 'cuda'>, driver: CudaDriver, { platform }: CudaMachine): string | null {
  const minimum = minimumDrivers[cuda.split('.')[0]!]?.[platform === 'win32' ? 'win32' : 'linux'];
  if (minimum !== undefined && compareReleases(driver.version, minimum) >= 0) return null;
  // Under WSL and with packages for forward compatibility the number is another, and the driver's own word counts.
  if (compareReleases(cuda, driver.cuda) <= 0) return null;
  return `CUDA ${cuda} needs the driver ${minimum ?? `that comes with CUDA ${cuda}`} or newer`;
}

function refuseGpu({ cuda, oldest, newestMajor }: CudaBuild, gpu: Gpu, { platform, arch }: CudaMachine): string | null {
  if (gpu.capability === null) return null;
  const first = oldest[arch === 'arm64' ? 'arm64' : 'x64'];
  const shown = `${gpu.name} (compute capability ${gpu.capability})`;
  if (compareReleases(gpu.capability, first) < 0)
    return `${shown} is too old for the build with CUDA ${cuda}, which begins at ${first}`;
  // On Linux the newest builds carry code that the driver compiles for GPUs that came later.
  const canCompile = platform === 'linux' && newestMajor >= 12;
  if (Number(gpu.capability.split('.')[0]) > newestMajor && !canCompile) {
    return `${shown} is too new for the build with CUDA ${cuda}, which ends at ${newestMajor}.x`;
  }
  return null;
}

function noDriver(version: string, looked: readonly string[]): LibTorchSetupError {
  const newest = cudaBuildsOf(version).find(({ isExperimental }) => !isExperimental)?.variant ?? 'cu130';
  return new LibTorchSetupError(
    [
      'No driver for NVIDIA GPUs was found. Looked at:',
      ...looked.map((line) => `  - ${line}`),
      'Install the driver, or, for an image that is built on a machine without a GPU, name the build: ' +
        `npx kontrast setup --cuda --variant ${newest}`,
    ].join('\n'),
    { code: 'LIBTORCH_CUDA' },
  );
}

function noBuild(
  version: string,
  offered: readonly CudaBuild[],
  driver: CudaDriver,
  machine: CudaMachine,
): LibTorchSetupError {
  const reasons = offered.flatMap((candidate) => refuseCudaBuild(candidate, driver, machine));
  const needsDriver = offered.every((candidate) => refuseDriver(candidate, driver, machine) !== null);
  return new LibTorchSetupError(
    [
      `No CUDA build of PyTorch ${version} works on this machine: the driver is ${driver.version} (CUDA ${driver.cuda}).`,
      ...[...new Set(reasons)].map((reason) => `  - ${reason}`),
      needsDriver
        ? 'Update the driver, then run npx kontrast setup --cuda again.'
        : 'This machine can compute on the CPU: npx kontrast setup --cpu',
    ].join('\n'),
    { code: 'LIBTORCH_CUDA' },
  );
}
