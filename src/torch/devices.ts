/** Devices, threads and memory. */
import { inspect } from 'node:util';
import { cuda, type CudaDevice, type CudaMemory } from './cuda';
import { InvalidArgumentError } from './errors';
import { pool } from './frame-memory';
import { native } from './native';
import type { Device } from './types';

/** @internal A device's name as JavaScript gave it, which may be anything. */
export function checkDeviceName(device: Device): string {
  if (typeof device === 'string') return device;
  throw new InvalidArgumentError(`a device is a name such as 'cpu' or 'cuda:0', not ${inspect(device, { depth: 0 })}`);
}

/** Waits until a device has done all the work it was given. See {@link synchronizeAsync}. */
export function synchronize(device: Device = 'cuda'): void {
  native.synchronize(checkDeviceName(device));
}

function checkThreads(count: number): number {
  if (Number.isInteger(count) && count >= 1 && count < 2 ** 31) return count;
  throw new InvalidArgumentError(`the number of threads is a whole number of at least 1, not ${inspect(count)}`);
}

/** How many threads an operator may use on the CPU. */
export function getThreads(): number {
  return native.threads();
}

/** Sets how many threads an operator may use on the CPU. */
export function setThreads(count: number): void {
  native.setThreads(checkThreads(count));
}

/** How many threads LibTorch has on the CPU for operators that run side by side, as forks in TorchScript do. */
export function getInteropThreads(): number {
  return native.interopThreads();
}

/**
 * Sets how many threads operators that run side by side have, once in a process and before the first of them runs.
 *
 * @throws InvalidArgumentError if the number is already fixed at another one
 */
export function setInteropThreads(count: number): void {
  native.setInteropThreads(checkThreads(count));
}

/** What tensors take. */
export interface MemoryUse {
  /** Tensor handles that were not freed yet, in this thread. */
  liveTensors: number;
  /** Bytes of the memory shared with the addon for operator calls. */
  frameBytes: number;
  /** Bytes that LibTorch has allocated on the CPU in this process, whoever holds them: tensors, graphs, other threads. */
  cpuBytes: number;
  /** The most that {@link MemoryUse.cpuBytes} has been since the start, or since {@link resetPeakMemory}. */
  peakCpuBytes: number;
  /** The memory of the CUDA device that was asked for. */
  cuda?: CudaMemory;
}

/**
 * What tensors take now.
 *
 * @param device - for a CUDA device its memory is told as well, as by {@link cuda.memoryStats}
 * @throws InvalidArgumentError if there is no such device
 */
export function memory(device: Device = 'cpu'): MemoryUse {
  const [cpuBytes, peakCpuBytes] = native.cpuMemory();
  const use: MemoryUse = {
    liveTensors: native.liveTensors(),
    frameBytes: pool.values.byteLength,
    cpuBytes,
    peakCpuBytes,
  };
  if (checkDeviceName(device).startsWith('cuda')) use.cuda = cuda.memoryStats(device as CudaDevice);
  return use;
}

/** Lets the peak of a device's memory start anew from what is allocated now. */
export function resetPeakMemory(device: Device = 'cpu'): void {
  if (checkDeviceName(device).startsWith('cuda')) cuda.resetPeakMemory(device as CudaDevice);
  else native.resetCpuPeak();
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
