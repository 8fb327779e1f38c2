import { InvalidArgumentError } from '../../torch';
import { asTriplets, easyHard } from './batch-easy-hard';
import type { MinerBatch, MinerOptions } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/** What {@link easyPositive} takes. */
export interface EasyPositiveOptions extends MinerOptions {
  /** The nearest negative (EPHN), or the nearest that is farther than the positive (EPSHN). Default: `'hard'`. */
  negative?: 'hard' | 'semihard';
}

/**
 * Easy positive, hard negative (Xuan, Stylianou, Liu and Pless 2020, "Improved Embeddings with Easy Positive Triplet Mining"): for each
 * anchor its nearest positive and its nearest negative, so that a class may spread over several places as long as each member has one
 * other nearby.
 *
 *     p(a) = argmin over positives of d(a, p),   n(a) = argmin over negatives of d(a, n)
 *
 * With `'semihard'` negatives nearer than the positive are passed over. Anchors that lack either give no triplet.
 *
 * For classes of great variety, where pulling all members to one point does harm.
 *
 * @returns at most N triplets, in the order of anchors
 * @throws InvalidArgumentError naming what does not fit
 */
export function easyPositive(batch: MinerBatch, options: EasyPositiveOptions = {}): TripletIndices {
  const { negative = 'hard' } = options;
  if (!['hard', 'semihard'].includes(negative)) {
    throw new InvalidArgumentError(`easyPositive: negative must be 'hard' or 'semihard', found '${negative}'`);
  }
  return asTriplets(easyHard(batch, { ...options, positive: 'easy', negative }, 'easyPositive'));
}
