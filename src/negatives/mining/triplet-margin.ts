import { InvalidArgumentError } from '../../torch';
import { distancesOf, elements, mined, tripletsWhere, type MinerBatch, type MinerOptions } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/** What {@link tripletMargin} takes. */
export interface TripletMarginOptions extends MinerOptions {
  /** Default: 0.2. */
  margin?: number;
  /** Which triplets: see {@link tripletMargin}. Default: `'all'`. */
  type?: 'all' | 'hard' | 'semihard' | 'easy';
}

const TYPES: readonly string[] = ['all', 'hard', 'semihard', 'easy'];

/**
 * All triplets by how much farther the negative is than the positive, Δ = d(a, n) − d(a, p):
 *
 *     all:       Δ ≤ margin          hard:  Δ ≤ 0 as well
 *     semihard:  0 < Δ ≤ margin      easy:  Δ > margin
 *
 * (Schroff et al. 2015, "FaceNet", for the kinds.) Their number may be N · P · M: memory is that of those which are kept.
 *
 * For triplet losses over all triplets that still have a loss.
 *
 * @returns triplets in the order of anchors, positives and negatives
 * @throws InvalidArgumentError naming what does not fit
 */
export function tripletMargin(batch: MinerBatch, options: TripletMarginOptions = {}): TripletIndices {
  const { margin = 0.2, type = 'all' } = options;
  if (!(margin >= 0 && margin < Infinity)) {
    throw new InvalidArgumentError(`tripletMargin: margin must be a number of at least 0, found ${margin}`);
  }
  if (!TYPES.includes(type)) {
    throw new InvalidArgumentError(`tripletMargin: type must be one of ${TYPES.join(', ')}, found '${type}'`);
  }
  return mined(batch, options, 'tripletMargin', (prepared) => {
    const distances = distancesOf(prepared, options);
    return tripletsWhere(prepared, (anchors, positives) => {
      const toPositive = elements(distances, anchors, positives).unsqueeze(1);
      const farther = distances.indexSelect(0, anchors).sub_(toPositive);
      if (type === 'easy') return farther.gt(margin);
      const violates = farther.le(margin);
      if (type === 'all') return violates;
      return violates.logicalAnd(type === 'hard' ? farther.le(0) : farther.gt(0));
    });
  });
}
