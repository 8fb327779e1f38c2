/** Bytes of numbers (one byte each), of text (UTF-8) and of other bytes. */
export function bytes(...parts: readonly (number | string | Uint8Array)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))));
}

/** An integer as `length` bytes, the low ones first. */
export function little(value: number | bigint, length: number): Buffer {
  const all = Buffer.alloc(8);
  all.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return all.subarray(0, length);
}
