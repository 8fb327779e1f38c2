/** The memory of the call frame that JavaScript and the addon share. */
import { native } from './native';

/** Items of lists; `values` is replaced by a larger array when a list does not fit. */
export const pool = { values: new Float64Array(0) };

const buffers = native.frame(reservePool);

/** The arrays of the call frame, one place an argument or result. */
export const frame = {
  /** What each entry is. */
  kinds: new Uint8Array(buffers.kind),
  /** Each entry's number, handle, interned string or offset into the pool. */
  values: new Float64Array(buffers.value),
  /** The same memory, for the bits of 64-bit integers. */
  valueBits: new BigInt64Array(buffers.value),
  /** How many items an entry's list has. */
  lengths: new Int32Array(buffers.length),
  /** Each entry's keyword: 0 for none, else an interned name. Read for calls that say they have any. */
  keywords: new Int32Array(buffers.keyword),
  /** The operator to run, how many entries it is given, whether any of them has a keyword, and how many results it left. */
  call: new Uint32Array(buffers.call),
};

/** Makes room for `length` items in the pool, keeping those that are there. */
export function reservePool(length: number): void {
  if (length <= pool.values.length) return;
  const larger = new Float64Array(Math.max(length, 2 * pool.values.length, 65536));
  larger.set(pool.values);
  pool.values = larger;
  native.setPool(larger.buffer);
}

reservePool(1);
