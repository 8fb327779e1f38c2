import { asTriplets, easyHard } from './batch-easy-hard';
import type { MinerBatch, MinerOptions } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/**
 * Batch hard (Hermans, Beyer and Leibe 2017, "In Defense of the Triplet Loss for Person Re-Identification"): for each anchor its farthest
 * positive and its nearest negative.
 *
 *     p(a) = argmax over positives of d(a, p),   n(a) = argmin over negatives of d(a, n)
 *
 * Anchors without a positive or a negative give no triplet. The authors train with a soft margin, log(1 + exp(d_ap − d_an)), and
 * embeddings that are not normalised; the default here is normalised.
 *
 * For batches of several views or images of each class, once training no longer collapses from hard negatives.
 *
 * @returns at most N triplets, in the order of anchors
 * @throws InvalidArgumentError naming what does not fit
 */
export function batchHard(batch: MinerBatch, options: MinerOptions = {}): TripletIndices {
  return asTriplets(easyHard(batch, { ...options, positive: 'hard', negative: 'hard' }, 'batchHard'));
}
