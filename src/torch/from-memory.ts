import { pool, reservePool } from './frame-memory';
import { wrap } from './frame';
import { native } from './native';
import type { Tensor } from './tensor';
import { dtypeCode } from './typed-arrays';
import type { DType } from './types';

/** @internal A tensor of an array's bytes: of a copy of them, or, with `share`, of the very memory. */
export function fromMemory(array: ArrayBufferView, shape: readonly number[], dtype: DType, share = false): Tensor {
  reservePool(shape.length);
  pool.values.set(shape);
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return wrap(native.fromBuffer(bytes, dtypeCode(dtype), shape.length, share)) as Tensor;
}
