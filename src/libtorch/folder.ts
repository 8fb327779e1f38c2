import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseVersion, type Version } from './version';

/** What a folder with LibTorch in it holds. */
export interface LibTorchFolder {
  /** The folder: an unpacked LibTorch, or the `torch` folder of an installed Python package. */
  root: string;
  /** The folder of the shared libraries. */
  lib: string;
  /** The folder of the headers; it exists only where `hasHeaders` is true. */
  include: string;
  /** Whether the headers that the addon is compiled with are there. */
  hasHeaders: boolean;
  /** The release, such as `2.13.0`. */
  version: string;
  /** The minor release, such as `2.13`. */
  minor: string;
  /** `cpu`, `cu130`, …: what the libraries were built for, as far as the folder tells. */
  variant: string;
  /** Whether the CUDA library is there. */
  hasCuda: boolean;
  /** The CUDA version that it was built with, such as `13.0`, where the folder tells. */
  cudaVersion?: string;
}

/** The file name of a shared library on this platform, for example `libtorch_cpu.so`. */
export function libraryFile(name: string, platform: NodeJS.Platform = process.platform): string {
  if (platform === 'win32') return `${name}.dll`;
  return `lib${name}.${platform === 'darwin' ? 'dylib' : 'so'}`;
}

/** The libraries without which no tensor works. */
export const essentialLibraries: readonly string[] = [libraryFile('c10'), libraryFile('torch_cpu')];

/** Reads what a folder holds from a handful of small files (well under a millisecond), or says why it isn't LibTorch. */
export function readLibTorchFolder(root: string): LibTorchFolder | { refused: string } {
  if (!isDirectory(root)) return { refused: 'no such folder' };
  const lib = join(root, 'lib');
  for (const library of essentialLibraries) {
    if (!(fileSize(join(lib, library)) > 0)) return { refused: `lib/${library} is missing` };
  }
  const found = readVersion(root);
  if (!found)
    return { refused: 'it does not tell its version (version.py, build-version and the version header are missing)' };
  const { version, cuda } = found;
  const include = join(root, 'include');
  const hasCuda = fileSize(join(lib, libraryFile('torch_cuda'))) > 0;
  const folder: LibTorchFolder = {
    root,
    lib,
    include,
    hasHeaders: fileSize(join(include, 'ATen', 'core', 'dispatch', 'Dispatcher.h')) > 0,
    version: version.release,
    minor: version.minor,
    variant: version.local || (hasCuda ? 'cuda' : 'cpu'),
    hasCuda,
  };
  const cudaVersion = cuda ?? cudaOfVariant(version.local);
  if (hasCuda && cudaVersion !== undefined) folder.cudaVersion = cudaVersion;
  return folder;
}

/** Reads the version from the Python package's `version.py`, LibTorch's own `build-version`, or the version header. */
function readVersion(root: string): { version: Version; cuda?: string } | null {
  const python = readText(join(root, 'version.py'));
  if (python !== null) {
    const version = /^__version__\s*=\s*['"]([^'"]+)['"]/m.exec(python)?.[1];
    const cuda = /^cuda\b[^=\n]*=\s*['"]([^'"]+)['"]/m.exec(python)?.[1];
    if (version !== undefined) return withVersion(version, cuda);
  }
  const build = readText(join(root, 'build-version'));
  if (build !== null) return withVersion(build.trim());
  const header = readText(join(root, 'include', 'torch', 'headeronly', 'version.h'));
  if (header !== null) {
    const part = (name: string) => new RegExp(`#define TORCH_VERSION_${name} (\\d+)`).exec(header)?.[1];
    return withVersion(`${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}`);
  }
  return null;
}

function withVersion(text: string, cuda?: string): { version: Version; cuda?: string } | null {
  try {
    return { version: parseVersion(text), cuda };
  } catch {
    return null;
  }
}

/** `cu130` means CUDA 13.0: the last digit is the minor version. */
function cudaOfVariant(variant: string): string | undefined {
  const match = /^cu(\d+)(\d)$/.exec(variant);
  return match ? `${match[1]}.${match[2]}` : undefined;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** The size of a regular file in bytes, or -1 when there is none. */
export function fileSize(path: string): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat?.isFile() ? stat.size : -1;
}

function readText(path: string): string | null {
  return fileSize(path) < 0 ? null : readFileSync(path, 'utf8');
}
