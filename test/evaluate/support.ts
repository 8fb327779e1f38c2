/** What the tests of the evaluations share. */
import { Generator, torch, type Device, type Tensor } from '../../src/torch';

export const device = (process.env.KONTRAST_TEST_DEVICE ?? 'cpu') as Device;

/** Normal random numbers [rows, columns]. */
export function randomFeatures(rows: number, columns: number, seed = 1): Tensor {
  return torch.randn([rows, columns], { generator: new Generator({ seed }) }).to(device);
}

/** Labels 0, 1, …, classes − 1, 0, 1, … */
export function cyclicLabels(count: number, classes: number): Tensor {
  return torch.arange(count).remainder(classes).to(device);
}

/** Rows around a random centre for each class; with little `spread` the classes do not touch. */
export function clusters(rows: number, columns: number, classes: number, spread: number, seed: number): Tensor {
  const centres = randomFeatures(classes, columns, 77);
  return centres.indexSelect(0, cyclicLabels(rows, classes)).add(randomFeatures(rows, columns, seed).mul(spread));
}

export const numbers = (tensor: Tensor) => Array.from(tensor.dataSync() as ArrayLike<number | bigint>, Number);
export const rowsOf = (tensor: Tensor) => tensor.to('float64').toArraySync() as unknown as number[][];

export function cosine(a: number[], b: number[]): number {
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
