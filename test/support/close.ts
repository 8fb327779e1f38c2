import assert from 'node:assert/strict';
import type { Tensor } from '../../src/torch';

/** How far two tensors may be apart: |actual − expected| ≤ atol + rtol · |expected|. */
export interface Tolerance {
  atol?: number;
  rtol?: number;
}

/** The elements as numbers, in row-major order. */
export function numbers(tensor: Tensor): number[] {
  return Array.from(tensor.dataSync() as ArrayLike<number | bigint>, Number);
}

/** The largest difference between elements of two tensors of one shape. */
export function largestDifference(a: Tensor, b: Tensor): number {
  const [x, y] = [numbers(a), numbers(b)];
  return x.reduce((largest, value, index) => Math.max(largest, Math.abs(value - y[index]!)), 0);
}

/** Asserts that two tensors have one shape and are close. NaN is close to nothing. */
export function assertClose(actual: Tensor, expected: Tensor, tolerance: Tolerance = {}, what = 'tensor'): void {
  const { atol = 1e-6, rtol = 1e-5 } = tolerance;
  assert.deepEqual([...actual.shape], [...expected.shape], `${what}: shape`);
  const [a, b] = [numbers(actual), numbers(expected)];
  let worst = -1;
  let excess = 0;
  a.forEach((value, index) => {
    // Equal infinities have no difference.
    if (value === b[index]) return;
    const beyond = Math.abs(value - b[index]!) - (atol + rtol * Math.abs(b[index]!));
    if (!(beyond <= excess)) {
      excess = Number.isNaN(beyond) ? Infinity : beyond;
      worst = index;
    }
  });
  assert.ok(worst < 0, `${what}: element ${worst} is ${a[worst]}, expected ${b[worst]} (atol ${atol}, rtol ${rtol})`);
}
