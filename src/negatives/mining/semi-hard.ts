import { InvalidArgumentError, scope, torch, type Tensor } from '../../torch';
import { distancesOf, elements, mined, whereTrue, type MinerBatch, type MinerOptions } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/** What {@link semiHard} takes. */
export interface SemiHardOptions extends MinerOptions {
  /** How much farther than the positive a negative may be at most. Default: any. */
  margin?: number;
}

/** Distances that are held at once. */
const AT_ONCE = 1 << 22;

/**
 * Semi-hard (Schroff, Kalenichenko and Philbin 2015, "FaceNet: A Unified Embedding for Face Recognition and Clustering"): for every positive pair the
 * nearest negative that is farther than the positive.
 *
 *     n(a, p) = argmin of d(a, n) over negatives with d(a, p) < d(a, n),  and d(a, n) ≤ d(a, p) + margin if there is one
 *
 * Pairs without such a negative give no triplet; some libraries then take the farthest negative. The paper measures squared distances (`distance:
 * 'squaredEuclidean'`) with a margin of 0.2. All such triplets, not only the nearest: {@link tripletMargin} with `'semihard'`.
 *
 * For triplet losses early in training, where the hardest negatives make the embeddings collapse.
 *
 * @returns at most as many triplets as there are positive pairs, in their order
 * @throws InvalidArgumentError naming what does not fit
 */
export function semiHard(batch: MinerBatch, options: SemiHardOptions = {}): TripletIndices {
  const { margin = Infinity } = options;
  if (!(margin > 0)) throw new InvalidArgumentError(`semiHard: margin must be above 0, found ${margin}`);
  return mined(batch, options, 'semiHard', (prepared) => {
    const distances = distancesOf(prepared, options);
    const [anchors, positives] = whereTrue(prepared.positives);
    const limit = elements(distances, anchors, positives).unsqueeze(1);
    const toNegatives = torch.where(prepared.negatives, distances, distances.newFull([], Infinity));
    const tile = Math.max(1, Math.floor(AT_ONCE / distances.sizeOf(1)));
    const parts: (readonly [values: Tensor, indices: Tensor])[] = [];
    for (let from = 0; from < anchors.numel(); from += tile) {
      const count = Math.min(tile, anchors.numel() - from);
      parts.push(
        scope(() => {
          const rows = toNegatives.indexSelect(0, anchors.narrow(0, from, count));
          const near = limit.narrow(0, from, count);
          const allowed = rows.gt(near).logicalAnd(rows.le(near.add(margin)));
          return torch.where(allowed, rows, rows.newFull([], Infinity)).min(1);
        }),
      );
    }
    const none = anchors.newEmpty([0]);
    const nearest = torch.cat([distances.newEmpty([0]), ...parts.map(([values]) => values)]);
    const negatives = torch.cat([none, ...parts.map(([, indices]) => indices)]);
    const kept = nearest.lt(Infinity).nonzero().squeeze(1);
    return {
      anchors: anchors.indexSelect(0, kept),
      positives: positives.indexSelect(0, kept),
      negatives: negatives.indexSelect(0, kept),
    };
  });
}
