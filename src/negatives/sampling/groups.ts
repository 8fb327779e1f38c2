/** Rows grouped by an integer: by label, by cluster, by node. */
import { createHash } from 'node:crypto';
import { InvalidArgumentError, isTensor, type Tensor } from '../../torch';

/** Integers, one for each row: a tensor of one dimension, or an array. */
export type Integers = Tensor | readonly number[] | Int32Array | BigInt64Array;

/**
 * The numbers as an Int32Array.
 *
 * @throws InvalidArgumentError naming `what`, unless all are integers that fit 32 bits, and `length` many if that is given
 */
export function integers(values: Integers, what: string, length?: number): Int32Array {
  if (isTensor(values)) {
    const kinds = ['int64', 'int32', 'int16', 'int8', 'uint8'];
    if (values.ndim !== 1 || !kinds.includes(values.dtype)) {
      throw new InvalidArgumentError(
        `${what} must be integers [N], found ${values.dtype} [${values.shape.join(', ')}]`,
      );
    }
  }
  const list = isTensor(values) ? (values.dataSync() as ArrayLike<number | bigint>) : values;
  if (length !== undefined && list.length !== length) {
    throw new InvalidArgumentError(`${what} must be ${length} integers, found ${list.length}`);
  }
  return Int32Array.from(list as ArrayLike<number | bigint>, (value, index) => {
    const number = Number(value);
    if (number !== (number | 0)) {
      throw new InvalidArgumentError(`${what} must be integers of 32 bits, found ${String(value)} at ${index}`);
    }
    return number;
  });
}

/** Positions by group: those of group g are `rows` from `starts[g]` up to `starts[g + 1]`, in ascending order. */
export class Groups {
  readonly starts: Int32Array;
  readonly rows: Int32Array;

  private constructor(starts: Int32Array, rows: Int32Array) {
    this.starts = starts;
    this.rows = rows;
  }

  /** @param keys the group of each row, from 0 to `count` − 1 */
  static of(keys: Int32Array, count: number): Groups {
    const starts = new Int32Array(count + 1);
    for (const key of keys) starts[key + 1]!++;
    for (let group = 0; group < count; group++) starts[group + 1]! += starts[group]!;
    const next = starts.slice(0, count);
    const rows = new Int32Array(keys.length);
    keys.forEach((key, row) => (rows[next[key]!++] = row));
    return new Groups(starts, rows);
  }

  get count(): number {
    return this.starts.length - 1;
  }

  sizeOf(group: number): number {
    return this.starts[group + 1]! - this.starts[group]!;
  }

  /** The positions of one group: a view. */
  of(group: number): Int32Array {
    return this.rows.subarray(this.starts[group], this.starts[group + 1]);
  }
}

/** Any integers as the numbers from 0, in the order of first sight, and how many different ones there are. */
export function numbered(keys: ArrayLike<number | string>): { numbers: Int32Array; count: number } {
  const seen = new Map<number | string, number>();
  const numbers = Int32Array.from({ length: keys.length }, (_, row) => {
    const key = keys[row]!;
    let number = seen.get(key);
    if (number === undefined) seen.set(key, (number = seen.size));
    return number;
  });
  return { numbers, count: seen.size };
}

/** A short text that differs, for all practical purposes, when any of the numbers differ. */
export function digest(...parts: readonly (Int32Array | Float64Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    hash.update(`${part.constructor.name} ${part.length};`);
    hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  }
  return hash.digest('hex').slice(0, 16);
}
