/** The platforms that have packages with a compiled addon and with LibTorch. */

/** A platform with packages. */
export interface Platform {
  /** As in the names of packages: `linux-x64`. */
  readonly id: string;
  readonly os: NodeJS.Platform;
  readonly cpu: NodeJS.Architecture;
  /** The C library, where npm tells platforms apart by it. */
  readonly libc?: 'glibc';
  /** The libraries of LibTorch's package, as the Python wheel has them in `torch/lib`. */
  readonly libraries: readonly string[];
}

export const platforms: readonly Platform[] = [
  {
    id: 'linux-x64',
    os: 'linux',
    cpu: 'x64',
    libc: 'glibc',
    libraries: ['libc10.so', 'libgomp.so.1', 'libtorch_cpu.so'],
  },
  {
    id: 'linux-arm64',
    os: 'linux',
    cpu: 'arm64',
    libc: 'glibc',
    libraries: ['libc10.so', 'libgomp.so.1', 'libtorch_cpu.so'],
  },
  {
    id: 'darwin-arm64',
    os: 'darwin',
    cpu: 'arm64',
    libraries: ['libc10.dylib', 'libomp.dylib', 'libtorch_cpu.dylib'],
  },
  {
    id: 'win32-x64',
    os: 'win32',
    cpu: 'x64',
    libraries: ['asmjit.dll', 'c10.dll', 'fbgemm.dll', 'libiomp5md.dll', 'torch_cpu.dll', 'uv.dll'],
  },
];

/** The npm package with the compiled addon. */
export function addonPackage(platform: string): string {
  return `@kontrast/${platform}`;
}

/** The npm package with LibTorch for the CPU. */
export function libtorchPackage(platform: string): string {
  return `@kontrast/libtorch-${platform}-cpu`;
}

/** The version of the GNU C library that this process runs on; null on other systems and with other C libraries. */
export function glibcVersion(): string | null {
  if (process.platform !== 'linux') return null;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ?? null;
}

/** This process's platform as in the names of packages. Whether there are packages for it is another question. */
export const ownPlatform = `${process.platform}-${process.arch}`;
