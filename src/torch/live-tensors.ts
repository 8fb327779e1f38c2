/** Which tensors are alive, and where they were made. */
import { setTensorFactory, tensorFactory } from './frame';
import type { TensorHandle } from './handle';
import { native } from './native';
import { dtypeNames, type Device, type DType } from './types';
import { pool } from './frame-memory';

/** What is known of a tensor that JavaScript holds. */
export interface LiveTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: Device;
  /** Bytes of the memory under it, which its views share. */
  readonly bytes: number;
  /** Where it was made, the innermost call first; null if {@link traceTensors} was off then. */
  readonly madeAt: readonly string[] | null;
}

const origins = new Map<number, string>();
let plainFactory: ((handle: number) => TensorHandle) | undefined;

/**
 * Notes from now on where each tensor is made, for {@link debugLiveTensors}. It costs some microseconds a tensor: switch it on to look
 * for a leak, and off again.
 */
export function traceTensors(on: boolean): void {
  if (on === (plainFactory !== undefined)) return;
  if (plainFactory !== undefined) {
    setTensorFactory(plainFactory);
    plainFactory = undefined;
    return;
  }
  const make = tensorFactory();
  plainFactory = make;
  setTensorFactory((handle) => {
    origins.set(handle, new Error().stack ?? '');
    return make(handle);
  });
}

/** Lines of a stack outside this library. */
function callers(stack: string): string[] {
  return stack
    .split('\n')
    .slice(1)
    .map((line) => line.trim().replace(/^at /, ''))
    .filter((line) => !line.includes(__dirname) && !line.startsWith('node:') && !line.includes('(node:'));
}

/** Every tensor that JavaScript holds in this thread, those with the largest memory first. */
export function debugLiveTensors(): LiveTensor[] {
  const handles = native.liveHandles();
  const alive = new Set(handles);
  for (const handle of origins.keys()) if (!alive.has(handle)) origins.delete(handle);
  return handles
    .map((handle): LiveTensor => {
      const count = native.shape(handle);
      const origin = origins.get(handle);
      return {
        shape: Array.from(pool.values.subarray(0, count)),
        dtype: dtypeNames[native.dtype(handle)]!,
        device: native.device(handle) as Device,
        bytes: native.storageBytes(handle),
        madeAt: origin === undefined ? null : callers(origin),
      };
    })
    .sort((a, b) => b.bytes - a.bytes);
}
