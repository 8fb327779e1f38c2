import { InvalidArgumentError } from '../torch';

/** One number for both sides of a window, or height and width. */
export type Pair = number | readonly [number, number];

/**
 * The value itself, if it is an integer of at least one.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function positiveInteger(value: number, what: string): number {
  return integerFrom(1, value, what);
}

/**
 * The value itself, if it is an integer of at least `least`.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function integerFrom(least: number, value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new InvalidArgumentError(`${what} must be an integer of at least ${least}, found ${String(value)}`);
  }
  return value;
}

/**
 * Height and width, each an integer of at least `least`.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function pair(value: Pair, least: number, what: string): readonly [number, number] {
  const [height, width] = typeof value === 'number' ? [value, value] : value;
  return [integerFrom(least, height, what), integerFrom(least, width, what)];
}

/**
 * The value itself, if it lies in [low, high].
 *
 * @throws InvalidArgumentError naming `what`
 */
export function numberWithin(low: number, high: number, value: number, what: string): number {
  if (!(value >= low && value <= high)) {
    const range = high === Infinity ? `a number of at least ${low}` : `a number from ${low} to ${high}`;
    throw new InvalidArgumentError(`${what} must be ${range}, found ${String(value)}`);
  }
  return value;
}
