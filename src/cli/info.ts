import { createRequire } from 'node:module';
import { libtorchInfo } from '../libtorch';
import { print } from './output';

/** `kontrast info`. */
export function info(flags: { json?: boolean }): void {
  // The places come first: when LibTorch is missing, the error that says so needs no addon.
  const found = libtorchInfo();
  const { cuda, getThreads, libtorchBuild } = createRequire(__filename)('../torch') as typeof import('../torch');
  const build = libtorchBuild();
  const devices = ['cpu', ...Array.from({ length: cuda.deviceCount() }, (_, index) => `cuda:${index}`)];
  if (flags.json === true) {
    print(JSON.stringify({ ...found, ...build, threads: getThreads(), devices }, null, 2));
    return;
  }
  const lines = {
    kontrast: found.kontrast,
    'Node.js': `${found.node}, ${found.platform}`,
    LibTorch: `${found.libtorch.version} (${found.libtorch.source}: ${found.libtorch.root})`,
    'built for': found.builtFor ?? 'not known',
    'CPU capability': build.cpuCapability,
    threads: String(getThreads()),
    devices: devices.join(', '),
    cache: found.cache,
  };
  const width = Math.max(...Object.keys(lines).map((name) => name.length));
  for (const [name, value] of Object.entries(lines)) print(`${name.padEnd(width)}  ${value}`);
}
