/** Plain numbers for the loops of these tests. */
import assert from 'node:assert/strict';
import { InvalidArgumentError, torch, type StateDict, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';

/** float64 [N, D] of normal numbers. */
export const random = (shape: readonly number[]): Tensor => torch.randn(shape, { dtype: 'float64', device });

export const ints = (values: readonly number[]): Tensor => torch.tensor([...values], { dtype: 'int64', device });

export const bools = (values: readonly boolean[]): Tensor => torch.tensor([...values], { dtype: 'bool', device });

/** The rows of a matrix. */
export function rowsOf(matrix: Tensor): number[][] {
  const values = numbers(matrix);
  const width = matrix.sizeOf(1);
  return Array.from({ length: matrix.sizeOf(0) }, (_, i) => values.slice(i * width, (i + 1) * width));
}

export const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

export const unit = (a: readonly number[]): number[] => {
  const length = Math.sqrt(dot(a, a));
  return a.map((x) => x / length);
};

export const cosine = (a: readonly number[], b: readonly number[]): number => dot(unit(a), unit(b));

export const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

/** The number of a tensor of one element. */
export const value = (tensor: Tensor): number => numbers(tensor)[0]!;

export function assertNear(actual: readonly number[], expected: readonly number[], tolerance = 1e-10): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((x, i) => assert.ok(Math.abs(x - expected[i]!) <= tolerance, `${i}: ${x}, expected ${expected[i]!}`));
}

export function assertRefuses(body: () => unknown, message: RegExp): void {
  assert.throws(body, { constructor: InvalidArgumentError, message });
}

/** Everything of a state, to compare. */
export const everything = ({ tensors, values }: StateDict): unknown => [
  [...tensors].map(([name, tensor]) => [name, tensor.dtype, [...tensor.shape], numbers(tensor)]),
  values,
];

/** A copy of a state, which later changes leave as it is. */
export const copied = ({ tensors, values }: StateDict): StateDict => ({
  tensors: new Map([...tensors].map(([name, tensor]) => [name, tensor.clone()])),
  values,
});
