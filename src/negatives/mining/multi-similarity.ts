import { InvalidArgumentError, torch } from '../../torch';
import { distancesOf, mined, whereTrue, type MinerBatch, type MinerOptions } from './miner';
import type { PairIndices } from './pairs-and-triplets';

/** What {@link multiSimilarity} takes. */
export interface MultiSimilarityOptions extends MinerOptions {
  /** ε. Default: 0.1, as in the paper. */
  epsilon?: number;
}

/**
 * The pair mining of the multi-similarity loss (Wang, Han, Huang, Dong and Scott 2019, "Multi-Similarity Loss with General Pair Weighting for Deep
 * Metric Learning"): a negative counts if it is more alike than the least alike positive, a positive if it is less alike than the most alike
 * negative, both give or take ε:
 *
 *     negatives n with s(a, n) > min over positives of s(a, p) − ε
 *     positives p with s(a, p) < max over negatives of s(a, n) + ε
 *
 * with s = −distance; the default distance is 1 − cosine. An anchor without negatives has no positive pairs, and the other way round. The
 * authors' code drops positives of similarity 1 as well, which are not only the anchor itself; here the anchor is left out by its place.
 * Checked against the golden values of an independent library.
 *
 * For pair losses over large batches, in which most pairs teach nothing any more.
 *
 * @throws InvalidArgumentError naming what does not fit
 */
export function multiSimilarity(batch: MinerBatch, options: MultiSimilarityOptions = {}): PairIndices {
  const { epsilon = 0.1, distance = 'cosine' } = options;
  if (!Number.isFinite(epsilon)) {
    throw new InvalidArgumentError(`multiSimilarity: epsilon must be a number, found ${epsilon}`);
  }
  return mined(batch, { ...options, distance }, 'multiSimilarity', (prepared) => {
    const distances = distancesOf(prepared, { ...options, distance });
    const { positives, negatives } = prepared;
    const farthest = torch.where(positives, distances, distances.newFull([], -Infinity)).amax([1], true);
    const nearest = torch.where(negatives, distances, distances.newFull([], Infinity)).amin([1], true);
    const [anchors1, first] = whereTrue(positives.logicalAnd(distances.gt(nearest.sub(epsilon))));
    const [anchors2, second] = whereTrue(negatives.logicalAnd(distances.lt(farthest.add(epsilon))));
    return { anchors1, positives: first, anchors2, negatives: second };
  });
}
