// What compiled files ask of a system, read from the files themselves.
import { spawnSync } from 'node:child_process';

function compare(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The newest version of the GNU C library that any of some libraries takes a symbol from. */
export function newestGlibc(files) {
  const found = files.flatMap((file) => {
    const { status, stdout, stderr } = spawnSync('readelf', ['--version-info', '--wide', file], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (status !== 0) throw new Error(`readelf ${file} failed: ${stderr}`);
    return [...stdout.matchAll(/Name: GLIBC_(\d+(?:\.\d+)+)/g)].map(([, version]) => version);
  });
  if (found.length === 0) throw new Error(`none of ${files.join(', ')} names a version of the GNU C library`);
  return found.sort(compare).at(-1);
}

/** `AddonRequirements` of src/libtorch/addon.ts for files that were compiled for a platform. */
export function requirementsOf(platform, libtorch, files) {
  if (platform.os !== 'linux') return { libtorch };
  // oneDNN, in LibTorch, computes with SSE4.1 at least; what it finds beyond that it uses.
  const cpu = platform.cpu === 'x64' ? { cpu: ['sse4_1'] } : {};
  return { libtorch, glibc: newestGlibc(files), ...cpu };
}
