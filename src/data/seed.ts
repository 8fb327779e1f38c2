import { InvalidArgumentError } from '../torch/errors';

const mask = (1n << 64n) - 1n;

/** The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each output bit depends on each input bit. */
function mix(value: bigint): bigint {
  let z = (value + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return z ^ (z >> 31n);
}

/**
 * A seed for one of many independent random streams, from a run's seed and the stream's numbers (an epoch, a step, …).
 *
 * With it a generator's state need not be stored: the stream of epoch 7 can be made again from the run's seed and 7. Adding the
 * numbers instead would make epoch 1 of seed 0 the same as epoch 0 of seed 1.
 *
 * @returns an integer from 0 to 2⁶³ − 1
 * @throws InvalidArgumentError when a number is not an integer from 0 to 2⁵³ − 1
 */
export function deriveSeed(seed: number, ...stream: number[]): bigint {
  let state = 0n;
  for (const value of [seed, ...stream]) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new InvalidArgumentError(`A seed must be an integer from 0 to ${Number.MAX_SAFE_INTEGER}, not ${value}.`);
    }
    state = mix(state ^ BigInt(value));
  }
  return state >> 1n;
}
