/** Whether the matrix of scores is held as a whole or gone through tile by tile. */
import type { Tensor } from '../torch';
import type { Execution } from './statistics';

/** What was chosen, and why. */
export interface ExecutionChoice {
  readonly execution: Execution;
  /** In a sentence. */
  readonly reason: string;
  /** About how many bytes the dense form takes beside its inputs, with its gradients. */
  readonly denseBytes: number;
  /** The same of the tiled form. */
  readonly tiledBytes: number;
}

/**
 * From so many pairs on the tiled form is clearly the quicker one on the CPU (bench/contrast-scaling). Below, what it wins is little, and the
 * dense form has second derivatives.
 */
const TILED_FROM = 1 << 16;
/** On other devices a tile is a block of this size, so that there is nothing to win before. */
const TILED_FROM_ON_DEVICES = 1 << 24;
/** Matrices as large as the scores that the dense form holds at its peak: scores, mask, exponentials, gradients. */
const DENSE_MATRICES = 5;
/** What tiles and the partial sums of columns take, about, whatever the size. */
const TILED_FIXED = 48 << 20;

/** Chooses by size and device for rows, [N, D], and so many columns, or takes what is wanted. */
export function chooseExecution(rowsOf: Tensor, columns: number, wanted: Execution | 'auto'): ExecutionChoice {
  const [rows, dimension] = rowsOf.shape as readonly [number, number];
  const { device } = rowsOf;
  const bytes = rowsOf.dtype === 'float64' ? 8 : 4;
  const pairs = rows * columns;
  const denseBytes = DENSE_MATRICES * pairs * bytes;
  const tiledBytes = TILED_FIXED + 2 * (rows + columns) * dimension * bytes;
  const sizes = { denseBytes, tiledBytes };
  if (wanted !== 'auto') return { execution: wanted, reason: 'it was asked for', ...sizes };
  const from = device === 'cpu' ? TILED_FROM : TILED_FROM_ON_DEVICES;
  return pairs < from
    ? { execution: 'dense', reason: `${pairs} pairs are fewer than ${from}: the dense form is quicker`, ...sizes }
    : {
        execution: 'tiled',
        reason: `${pairs} pairs are ${from} or more: the tiled form is quicker, and smaller`,
        ...sizes,
      };
}
