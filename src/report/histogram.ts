import { InvalidArgumentError } from '../torch/errors';
import type { Histogram } from './data';

/** Options of {@link histogram}. */
export interface HistogramOptions {
  /** Lower end of the first bin. Default -1, the smallest cosine similarity. */
  minimum?: number;
  /** Upper end of the last bin, which holds values equal to it as well. Default 1. */
  maximum?: number;
  /** Number of bins of equal width. Default 80. */
  bins?: number;
}

/**
 * Counts values in bins of equal width. Values outside the range, as rounding makes them of cosine similarities, go to
 * the outermost bins; NaN is not counted.
 *
 * @throws InvalidArgumentError for a range that is empty or not finite, or a number of bins below 1.
 */
export function histogram(values: ArrayLike<number>, options: HistogramOptions = {}): Histogram {
  const { minimum = -1, maximum = 1, bins = 80 } = options;
  if (!Number.isFinite(minimum) || !Number.isFinite(maximum) || minimum >= maximum) {
    throw new InvalidArgumentError(
      `A histogram from ${minimum} to ${maximum} is empty: minimum must be below maximum.`,
    );
  }
  if (!Number.isInteger(bins) || bins < 1) {
    throw new InvalidArgumentError(`A histogram cannot have ${bins} bins: give a whole number of at least 1.`);
  }
  const width = (maximum - minimum) / bins;
  const edges = Array.from({ length: bins + 1 }, (_, index) => (index === bins ? maximum : minimum + index * width));
  const counts = new Array<number>(bins).fill(0);
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (Number.isNaN(value)) continue;
    const bin = Math.floor((value - minimum) / width);
    counts[Math.min(bins - 1, Math.max(0, bin))]!++;
  }
  return { edges, counts };
}
