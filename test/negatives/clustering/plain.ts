import type { Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';

/** The rows of [N, D] as plain numbers. */
export function rowsOf(tensor: Tensor): number[][] {
  const [count, width] = tensor.shape as [number, number];
  const values = numbers(tensor);
  return Array.from({ length: count }, (_, row) => values.slice(row * width, (row + 1) * width));
}

export const squared = (a: number[], b: number[]): number => a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0);

export const meanOf = (rows: number[][]): number[] =>
  rows[0]!.map((_, column) => rows.reduce((sum, row) => sum + row[column]!, 0) / rows.length);

/** The nearest centroid: of several the first. */
export const nearestOf = (row: number[], centroids: number[][]): number =>
  centroids.reduce((best, centroid, i) => (squared(row, centroid) < squared(row, centroids[best]!) ? i : best), 0);
