import { libtorchBuild } from '../../src/torch';

/** The versions that kontrast's side of a case runs on. */
export function versions(): Record<string, string> {
  const { version, cpuCapability } = libtorchBuild();
  return { node: process.versions.node, libtorch: version, kernels: cpuCapability };
}
