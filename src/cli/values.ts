/** Parsers of the command line's own values. */
import { InvalidArgumentError } from 'commander';

/** `auto`, `cpu`, `cuda` or `cuda:<number>`. */
export function parseDevice(text: string): string {
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(text))
    throw new InvalidArgumentError('It must be auto, cpu, cuda or cuda:<number>.');
  return text;
}

/** A whole number of at least 1. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('It must be a whole number of at least 1.');
  }
  return value;
}

/** A whole number from 0 to 2^53 − 1. */
export function parseSeed(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('It must be a whole number from 0 to 9007199254740991.');
  }
  return value;
}
