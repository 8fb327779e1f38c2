/** Plain numbers, and the checks that every objective's test makes. */
import assert from 'node:assert/strict';
import {
  Generator,
  grad,
  gradcheck,
  InvalidArgumentError,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';

const generator = new Generator({ seed: 20 });
export const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype, generator });
export const learning = (shape: number[], dtype: DType = 'float64'): Tensor => random(shape, dtype).requiresGrad_();
export const double = (x: number): Tensor => torch.tensor(x, { dtype: 'float64' });
export const ids = (values: readonly number[]): Tensor => torch.tensor(values.map(BigInt));

/** A matrix as rows of numbers. */
export function rowsOf(tensor: Tensor): number[][] {
  const [count, width] = [tensor.sizeOf(0), tensor.sizeOf(1)];
  const all = numbers(tensor.detach());
  return Array.from({ length: count }, (_, i) => all.slice(i * width, (i + 1) * width));
}

export const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
export const unit = (a: readonly number[]): number[] => a.map((x) => x / Math.sqrt(dot(a, a)));
export const cosine = (a: readonly number[], b: readonly number[]): number => dot(unit(a), unit(b));
export const squared = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0);
export const total = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0);
export const mean = (values: readonly number[]): number => total(values) / values.length;
export const sumExp = (values: readonly number[]): number => total(values.map(Math.exp));

/** The value of a tensor of one element, beside what it should be. */
export function assertValue(actual: Tensor, expected: number, what = 'loss', atol = 1e-10): void {
  const found = actual.itemSync() as number;
  assert.ok(Math.abs(found - expected) <= atol * Math.max(1, Math.abs(expected)), `${what}: ${found}, not ${expected}`);
}

/** Dense and tiled give one loss and one gradient. */
export function assertExecutionsAgree(
  loss: (execution: 'dense' | 'tiled') => Tensor,
  inputs: Tensor[],
  tolerance = 1e-10,
): void {
  const [dense, tiled] = (['dense', 'tiled'] as const).map((execution) => {
    const value = loss(execution);
    return [value.detach(), ...grad(value.sum(), inputs).map((slope) => slope!)];
  });
  dense!.forEach((expected, i) => {
    assertClose(tiled![i]!, expected, { atol: tolerance, rtol: tolerance }, i === 0 ? 'loss' : `gradient ${i - 1}`);
  });
}

/** Finite differences confirm the gradients, in both executions. */
export function assertGradients(
  loss: (execution: 'dense' | 'tiled', ...inputs: Tensor[]) => Tensor,
  inputs: Tensor[],
): void {
  for (const execution of ['dense', 'tiled'] as const) gradcheck((...given) => loss(execution, ...given), inputs);
}

/** The loss and its gradients are numbers in float32 at temperatures of 0.005 and 10. */
export function assertFinite(loss: (temperature: number, ...inputs: Tensor[]) => Tensor, shapes: number[][]): void {
  scope(() => {
    for (const temperature of [0.005, 10]) {
      const inputs = shapes.map((shape) => learning(shape, 'float32'));
      const value = loss(temperature, ...inputs);
      assert.ok(Number.isFinite(value.itemSync()), `the loss at temperature ${temperature}`);
      for (const slope of grad(value, inputs, { allowUnused: true })) {
        if (slope !== null) assert.equal(slope.isfinite().all().itemSync(), 1);
      }
    }
  });
}

/** The call is refused with an InvalidArgumentError that says so. */
export function assertRefuses(action: () => unknown, message: RegExp): void {
  assert.throws(
    () => scope(() => action() as Tensor),
    (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
    String(message),
  );
}
