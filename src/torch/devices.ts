/** Devices, threads and memory. */
import { native } from './native';
import { pool } from './frame-memory';
import type { Device } from './types';

/** CUDA, which is there when the LibTorch that was found has it and a driver and device are present. */
export const cuda = {
  /** Whether CUDA tensors can be made. */
  isAvailable(): boolean {
    return native.cudaDeviceCount() > 0;
  },
  /** How many CUDA devices there are. */
  deviceCount(): number {
    return native.cudaDeviceCount();
  },
};

/** Waits until a device has done all the work it was given. */
export function synchronize(device: Device = 'cuda'): void {
  native.synchronize(device);
}

/** How many threads an operator may use on the CPU. */
export function getThreads(): number {
  return native.threads();
}

/** Sets how many threads an operator may use on the CPU. */
export function setThreads(count: number): void {
  native.setThreads(count);
}

/** What tensors take. */
export interface MemoryUse {
  /** Tensor handles that were not freed yet, in this thread. */
  liveTensors: number;
  /** Bytes of the memory shared with the addon for operator calls. */
  frameBytes: number;
}

/** What tensors take now. */
export function memory(): MemoryUse {
  return { liveTensors: native.liveTensors(), frameBytes: pool.values.byteLength };
}

/** What the linked LibTorch is and what it can do on this machine. */
export interface LibTorchBuild {
  /** The version that the addon was built with. */
  version: string;
  /** The widest vector instructions that LibTorch uses here: `AVX512`, `AVX2`, `DEFAULT`. */
  cpuCapability: string;
  /** LibTorch's own description of its build. */
  configuration: string;
  /** LibTorch's own description of its threads. */
  parallel: string;
}

/** What the linked LibTorch is and what it can do on this machine. */
export function libtorchBuild(): LibTorchBuild {
  return native.build();
}
