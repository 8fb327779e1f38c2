import { InvalidArgumentError, torch } from '../../torch';
import { mined, tripletsWhere, type MinerBatch } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/** What {@link angular} takes. */
export interface AngularOptions {
  /** α in degrees, between 0 and 90. Default: 20. The paper tries 36 to 55 (from memory). */
  angle?: number;
  /** Whether embeddings are first brought to length one. Default: true. PyTorch Metric Learning takes them as they are. */
  normalize?: boolean;
}

/**
 * Triplets whose angle at the negative is too wide (Wang, Zhou, Wen, Liu and Lin 2017, "Deep Metric Learning with Angular Loss"):
 *
 *     atan( ‖a − p‖ / (2 ‖n − c‖) ) > α,   c = (a + p) / 2
 *
 * It does not depend on how far apart things are, and takes all three edges of the triangle into account. Checked against the
 * golden values of an independent library. Cost: N · P · M distances to the middles of pairs, in tiles.
 *
 * For angular losses, or where the scale of distances differs between classes.
 *
 * @returns triplets in the order of anchors, positives and negatives
 * @throws InvalidArgumentError naming what does not fit
 */
export function angular(batch: MinerBatch, options: AngularOptions = {}): TripletIndices {
  const { angle = 20, normalize = true } = options;
  if (!(angle > 0 && angle < 90)) {
    throw new InvalidArgumentError(`angular: angle must be between 0 and 90 degrees, found ${angle}`);
  }
  return mined(batch, { normalize }, 'angular', (prepared) =>
    tripletsWhere(prepared, (anchors, positives) => {
      const a = prepared.anchors.indexSelect(0, anchors);
      const p = prepared.others.indexSelect(0, positives);
      const edge = a.sub(p).linalgVectorNorm(2, [1], true);
      const toMiddle = torch.cdist(a.add(p).div_(2), prepared.others);
      return edge
        .div(toMiddle.mul_(2))
        .atan_()
        .gt((angle * Math.PI) / 180);
    }),
  );
}
