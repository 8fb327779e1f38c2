/** CUDA devices: which there are, which is current, and what their memory holds. */
import { inspect } from 'node:util';
import { synchronous } from './autograd';
import { InvalidArgumentError } from './errors';
import { native } from './native';

/** A CUDA device, by index or by name. `'cuda'` is the current one. */
export type CudaDevice = number | 'cuda' | `cuda:${number}`;

/** What a CUDA device is. See {@link cuda.properties}. */
export interface CudaDeviceProperties {
  /** Its memory in bytes. */
  totalBytes: number;
  /** Its name, such as `NVIDIA H100 80GB HBM3`. Left out where NVIDIA's driver cannot be asked. */
  name?: string;
  /** Its compute capability, such as `[9, 0]`; bfloat16 is quick from `[8, 0]` on. Left out like the name. */
  capability?: readonly [major: number, minor: number];
  /** How many multiprocessors it has. Left out like the name. */
  multiprocessors?: number;
}

/** What LibTorch's allocator holds of a CUDA device's memory, in bytes except where it says otherwise. */
export interface CudaMemory {
  /** Held by tensors. */
  allocatedBytes: number;
  /** The most that tensors held at once, since the start or {@link cuda.resetPeakMemory}. */
  peakAllocatedBytes: number;
  /** Taken from the device: what tensors hold, and what is kept for those to come. */
  reservedBytes: number;
  /** The most that was taken from the device at once. */
  peakReservedBytes: number;
  /** Free on the device, for this and other programs. */
  freeBytes: number;
  /** The device's memory. */
  totalBytes: number;
  /** How many blocks tensors hold. */
  allocations: number;
  /** How often all that was kept had to be given back before an allocation succeeded: slow, and a sign that memory is short. */
  retries: number;
  /** How often there was no memory left: {@link OutOfMemoryError}. */
  failures: number;
}

function nameOf(device: CudaDevice): string {
  if (typeof device === 'string') return device;
  if (!Number.isInteger(device) || device < 0 || device > 127) {
    throw new InvalidArgumentError(
      `a CUDA device is an index from 0 on, or a name such as 'cuda:0', not ${inspect(device)}`,
    );
  }
  return `cuda:${String(device)}`;
}

function indexOf(device: string): number {
  return Number(device.slice('cuda:'.length));
}

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

  /**
   * The index of the device that `'cuda'` stands for in this thread; 0 at first.
   *
   * @throws InvalidArgumentError if there is no CUDA device
   */
  currentDevice(): number {
    return indexOf(native.resolveDevice('cuda'));
  },

  /**
   * Makes a device the one that `'cuda'` stands for in this thread. Naming the device, `'cuda:1'`, is clearer where it is possible.
   *
   * @throws InvalidArgumentError if there is no such device
   */
  setDevice(device: CudaDevice): void {
    native.exchangeCudaDevice(nameOf(device));
  },

  /**
   * Runs synchronous code with `'cuda'` standing for a device.
   *
   * @throws InvalidArgumentError if there is no such device, or the callback is async
   */
  withDevice<T>(device: CudaDevice, body: () => T): T {
    const before = native.exchangeCudaDevice(nameOf(device));
    try {
      return synchronous('withDevice', body());
    } finally {
      native.exchangeCudaDevice(nameOf(before));
    }
  },

  /** What a device is. Default: the current one. */
  properties(device: CudaDevice = 'cuda'): CudaDeviceProperties {
    const name = nameOf(device);
    return { totalBytes: native.cudaMemoryStats(name).totalBytes, ...native.cudaProperties(name) };
  },

  /** What is held of a device's memory, and what is free. Default: the current device. */
  memoryStats(device: CudaDevice = 'cuda'): CudaMemory {
    return native.cudaMemoryStats(nameOf(device));
  },

  /** Gives back to the devices what is kept for tensors to come, for other programs; LibTorch itself reuses it anyway. */
  emptyCache(): void {
    native.emptyCudaCache();
  },

  /** Starts {@link CudaMemory.peakAllocatedBytes} and {@link CudaMemory.peakReservedBytes} anew from what is held now. */
  resetPeakMemory(device: CudaDevice = 'cuda'): void {
    native.resetCudaPeakMemory(nameOf(device));
  },
};
