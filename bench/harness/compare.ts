/** What an adapter reports as the result of its work: numbers, text or truth values, nested as JSON allows. */
export type ResultValue = number | string | boolean | null | ResultValue[] | { [name: string]: ResultValue };

/** Two numbers agree when `|actual - expected| <= absolute + relative * |expected|`. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

/**
 * Compares two results and describes the first difference, or returns undefined when they agree.
 *
 * A value that is not a finite number (JSON carries NaN as null) never agrees, not even with itself: two
 * implementations that both broke have not shown that they do the same work.
 */
export function firstDifference(
  expected: ResultValue | undefined,
  actual: ResultValue | undefined,
  tolerance: Tolerance,
  path = 'result',
): string | undefined {
  if (expected === undefined || expected === null || actual === undefined || actual === null) {
    const missing = expected === undefined || expected === null ? 'the reference' : 'the implementation';
    return `${path}: ${missing} reports no finite value`;
  }
  if (typeof expected === 'number' && typeof actual === 'number') {
    const allowed = tolerance.absolute + tolerance.relative * Math.abs(expected);
    const difference = Math.abs(actual - expected);
    return difference <= allowed ? undefined : `${path}: ${actual}, expected ${expected} ± ${allowed.toPrecision(3)}`;
  }
  if (Array.isArray(expected) && Array.isArray(actual)) {
    if (expected.length !== actual.length) {
      return `${path}: ${actual.length} values, expected ${expected.length}`;
    }
    for (const [index, value] of expected.entries()) {
      const difference = firstDifference(value, actual[index], tolerance, `${path}[${index}]`);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }
  if (isRecord(expected) && isRecord(actual)) {
    for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      const difference = firstDifference(expected[name], actual[name], tolerance, `${path}.${name}`);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }
  return expected === actual ? undefined : `${path}: ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`;
}

function isRecord(value: ResultValue): value is { [name: string]: ResultValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
