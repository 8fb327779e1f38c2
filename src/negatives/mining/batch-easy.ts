import { asTriplets, easyHard } from './batch-easy-hard';
import type { MinerBatch, MinerOptions } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/**
 * Batch easy: for each anchor its nearest positive and its farthest negative.
 *
 *     p(a) = argmin over positives of d(a, p),   n(a) = argmax over negatives of d(a, n)
 *
 * Anchors without a positive or a negative give no triplet.
 *
 * For the first steps from an untrained encoder, and as the lower end that other miners are compared with.
 *
 * @returns at most N triplets, in the order of anchors
 * @throws InvalidArgumentError naming what does not fit
 */
export function batchEasy(batch: MinerBatch, options: MinerOptions = {}): TripletIndices {
  return asTriplets(easyHard(batch, { ...options, positive: 'easy', negative: 'easy' }, 'batchEasy'));
}
