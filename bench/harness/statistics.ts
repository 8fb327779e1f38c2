/** The five-number summary of repeated measurements, which is all that the tables show. */
export interface Summary {
  readonly count: number;
  readonly minimum: number;
  readonly lowerQuartile: number;
  readonly median: number;
  readonly upperQuartile: number;
  readonly maximum: number;
}

/**
 * The value below which the given fraction of the values lies, with linear interpolation between neighbours
 * (so that the median of an even number of values is the mean of the two in the middle).
 *
 * @throws RangeError when there are no values, when one is not finite, or when the fraction is outside 0 to 1.
 */
export function quantile(values: readonly number[], fraction: number): number {
  if (values.length === 0) throw new RangeError('a quantile of no values does not exist');
  if (!(fraction >= 0 && fraction <= 1)) throw new RangeError(`a quantile's fraction is 0 to 1, not ${fraction}`);
  const unusable = values.find((value) => !Number.isFinite(value));
  if (unusable !== undefined) throw new RangeError(`a measurement must be a finite number, not ${unusable}`);
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * fraction;
  const below = Math.floor(position);
  const above = Math.ceil(position);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

/** The middle value; see {@link quantile}. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Minimum, quartiles and maximum of at least one finite value. */
export function summarize(values: readonly number[]): Summary {
  return {
    count: values.length,
    minimum: quantile(values, 0),
    lowerQuartile: quantile(values, 0.25),
    median: quantile(values, 0.5),
    upperQuartile: quantile(values, 0.75),
    maximum: quantile(values, 1),
  };
}

/**
 * Ratios round by round: `numerators[i] / denominators[i]`. The two of one round ran next to each other, so what the
 * machine did meanwhile (other work, clock frequency) mostly cancels; it would not in a ratio of two medians.
 *
 * @throws RangeError when the lengths differ.
 */
export function pairedRatios(numerators: readonly number[], denominators: readonly number[]): number[] {
  if (numerators.length !== denominators.length) {
    throw new RangeError(`paired ratios need as many of both: ${numerators.length} and ${denominators.length} given`);
  }
  return numerators.map((numerator, round) => numerator / denominators[round]);
}
