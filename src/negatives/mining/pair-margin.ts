import { InvalidArgumentError } from '../../torch';
import { distancesOf, mined, whereTrue, type MinerBatch, type MinerOptions } from './miner';
import type { PairIndices } from './pairs-and-triplets';

/** What {@link pairMargin} takes. */
export interface PairMarginOptions extends MinerOptions {
  /** Positive pairs farther apart than this are taken. Default: 0.2. */
  positiveMargin?: number;
  /** Negative pairs nearer than this are taken. Default: 0.8. */
  negativeMargin?: number;
}

/**
 * Pairs that still have a contrastive loss (Hadsell, Chopra and LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping", for the
 * loss):
 *
 *     positives with d(a, p) > positiveMargin,   negatives with d(a, n) < negativeMargin
 *
 * For pair losses, to leave out pairs that are apart or together already.
 *
 * @throws InvalidArgumentError naming what does not fit
 */
export function pairMargin(batch: MinerBatch, options: PairMarginOptions = {}): PairIndices {
  const { positiveMargin = 0.2, negativeMargin = 0.8 } = options;
  for (const [name, margin] of Object.entries({ positiveMargin, negativeMargin })) {
    if (!Number.isFinite(margin)) {
      throw new InvalidArgumentError(`pairMargin: ${name} must be a number, found ${margin}`);
    }
  }
  return mined(batch, options, 'pairMargin', (prepared) => {
    const distances = distancesOf(prepared, options);
    const [anchors1, positives] = whereTrue(prepared.positives.logicalAnd(distances.gt(positiveMargin)));
    const [anchors2, negatives] = whereTrue(prepared.negatives.logicalAnd(distances.lt(negativeMargin)));
    return { anchors1, positives, anchors2, negatives };
  });
}
