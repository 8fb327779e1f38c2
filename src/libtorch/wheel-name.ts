/** What a wheel's file name says: package, version, and what it runs on (PEP 427). */
import { compareReleases } from './version';
import { glibcVersion } from './platforms';
import { normalName } from './requirements';

/** A wheel's file name, split. */
export interface WheelName {
  /** The package's name in its normal form. */
  name: string;
  version: string;
  /** `cp311`, `py3`, … */
  pythons: readonly string[];
  /** `manylinux_2_28_x86_64`, `win_amd64`, `any`, … */
  platforms: readonly string[];
}

/** What wheels have to run on. */
export interface WheelTarget {
  platform: NodeJS.Platform;
  arch: NodeJS.Architecture;
  /** The version of the GNU C library; null where there is another one or none. */
  glibc: string | null;
}

/** This process's machine. */
export function ownTarget(): WheelTarget {
  return { platform: process.platform, arch: process.arch, glibc: glibcVersion() };
}

/** Splits a file name; null when it is not one of a wheel. */
export function parseWheelName(fileName: string): WheelName | null {
  const parts = /^(.+)\.whl$/.exec(fileName)?.[1]?.split('-') ?? [];
  if (parts.length !== 5 && parts.length !== 6) return null;
  const [pythons, , platforms] = parts.slice(-3) as [string, string, string];
  return {
    name: normalName(parts[0]!),
    version: parts[1]!,
    pythons: pythons.split('.'),
    platforms: platforms.split('.'),
  };
}

/** The Python that a wheel is for, such as `3.11`; of wheels for any, a common one. Markers ask for it. */
export function pythonOf({ pythons }: WheelName): string {
  const match = /^cp3(\d+)$/.exec(pythons[0] ?? '');
  return match ? `3.${match[1]}` : '3.12';
}

/** Whether the libraries in a wheel run on a machine. Which Python it is for does not matter: only its libraries are used. */
export function runsOn({ platforms }: WheelName, target: WheelTarget): boolean {
  return platforms.some((tag) => tagRunsOn(tag, target));
}

const oldManylinux: Record<string, string> = { manylinux1: '2.5', manylinux2010: '2.12', manylinux2014: '2.17' };

function tagRunsOn(tag: string, { platform, arch, glibc }: WheelTarget): boolean {
  if (tag === 'any') return true;
  const machine = { x64: ['x86_64', 'amd64'], arm64: ['aarch64', 'arm64'] }[arch as 'x64' | 'arm64'] ?? [arch];
  if (platform === 'win32') return machine.some((name) => tag === `win_${name}`);
  if (platform === 'darwin') return /^macosx_\d+_\d+_/.test(tag) && machine.some((name) => tag.endsWith(`_${name}`));
  if (platform !== 'linux' || !machine.some((name) => tag.endsWith(`_${name}`))) return false;
  if (tag.startsWith('linux_')) return true;
  const [, major, minor] = /^manylinux_(\d+)_(\d+)_/.exec(tag) ?? [];
  const wanted = major === undefined ? oldManylinux[tag.split('_')[0]!] : `${major}.${minor}`;
  return wanted !== undefined && glibc !== null && compareReleases(glibc, wanted) >= 0;
}
