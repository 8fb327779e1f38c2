import { InvalidArgumentError, scope, torch, type Generator, type Tensor } from '../../torch';
import { Randomised } from '../randomised';
import { distancesOf, mined, whereTrue, type MinerBatch } from './miner';
import type { TripletIndices } from './pairs-and-triplets';

/** What {@link DistanceWeightedMiner} takes. */
export interface DistanceWeightedOptions {
  /** Smaller distances are taken for this one: their weights would be noise. Default: 0.5, as in the paper. */
  cutoff?: number;
  /** Negatives at least this far away are never drawn, as their loss is 0. Default: 1.4, as in the authors' code. */
  nonzeroLossCutoff?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/** Sums of weights that are held at once. */
const AT_ONCE = 1 << 22;

/**
 * Distance-weighted sampling (Wu, Manmatha, Smola and Krähenbühl 2017, "Sampling Matters in Deep Embedding Learning"): negatives are drawn evenly over
 * distances instead of evenly over rows, of which on a sphere nearly all are √2 away.
 *
 *     p(n | a) ∝ 1 / q(max(d(a, n), cutoff))  for d(a, n) < nonzeroLossCutoff,  else 0
 *     q(d) = d^(D−2) · (1 − d²/4)^((D−3)/2)
 *
 * q is the density of distances between random points of the unit sphere in D dimensions; embeddings are brought to length one. Each
 * positive pair gets one negative; anchors of which all negatives are too far give none. The draw is on the CPU, so that it is the same on every
 * device. Weights were checked against an independent library, which, other than here, draws positives at random as well.
 *
 * For margin and triplet losses on normalised embeddings: hard and easy negatives in a fixed proportion.
 */
export class DistanceWeightedMiner extends Randomised {
  readonly cutoff: number;
  readonly nonzeroLossCutoff: number;

  constructor(options: DistanceWeightedOptions = {}) {
    const { cutoff = 0.5, nonzeroLossCutoff = 1.4, seed = 0 } = options;
    super('DistanceWeightedMiner', seed);
    if (!(cutoff > 0 && cutoff < 2)) {
      throw new InvalidArgumentError(`DistanceWeightedMiner: cutoff must be between 0 and 2, found ${cutoff}`);
    }
    if (!(nonzeroLossCutoff > 0)) {
      throw new InvalidArgumentError(
        `DistanceWeightedMiner: nonzeroLossCutoff must be above 0, found ${nonzeroLossCutoff}`,
      );
    }
    this.cutoff = cutoff;
    this.nonzeroLossCutoff = nonzeroLossCutoff;
  }

  /**
   * Draws a negative for each positive pair.
   *
   * @returns at most as many triplets as there are positive pairs, in their order
   * @throws InvalidArgumentError naming what does not fit, before anything is drawn
   */
  mine(batch: MinerBatch): TripletIndices {
    return mined(batch, {}, 'DistanceWeightedMiner', (prepared) => {
      const dimension = prepared.anchors.sizeOf(1);
      const weights = this.#weights(distancesOf(prepared, {}), prepared.negatives, dimension);
      const sums = weights.cumsum(1);
      const [anchors, positives] = whereTrue(prepared.positives);
      const { generator } = this;
      const shares = torch
        .rand([anchors.numel()], { dtype: 'float64', generator, device: generator.device })
        .to({ device: anchors.device });
      const tile = Math.max(1, Math.floor(AT_ONCE / sums.sizeOf(1)));
      const parts: Tensor[] = [anchors.newEmpty([0])];
      for (let from = 0; from < anchors.numel(); from += tile) {
        const count = Math.min(tile, anchors.numel() - from);
        parts.push(
          scope(() => {
            const rows = sums.indexSelect(0, anchors.narrow(0, from, count));
            const share = shares.narrow(0, from, count).unsqueeze(1);
            // The first sum above the share of the whole: a row of weight 0 adds nothing, and is passed over.
            const wanted = share.mul(rows.narrow(1, rows.sizeOf(1) - 1, 1));
            return torch.searchsorted(rows, wanted, { right: true }).squeeze(1);
          }),
        );
      }
      const drawn = torch.cat(parts);
      const kept = sums.select(1, -1).indexSelect(0, anchors).gt(0).nonzero().squeeze(1);
      return {
        anchors: anchors.indexSelect(0, kept),
        positives: positives.indexSelect(0, kept),
        negatives: drawn.indexSelect(0, kept),
      };
    });
  }

  /** The weights of negatives, float64 [N, M]; each row's largest is 1, or all are 0. */
  #weights(distances: Tensor, negatives: Tensor, dimension: number): Tensor {
    const d = distances.to({ dtype: 'float64' }).clampMin_(this.cutoff);
    const logarithm = d
      .log()
      .mul_(2 - dimension)
      .sub_(
        d
          .square()
          .mul_(-0.25)
          .add_(1)
          .log_()
          .mul_((dimension - 3) / 2),
      );
    const counts = negatives.logicalAnd(d.lt(this.nonzeroLossCutoff)).logicalAnd(logarithm.isfinite());
    const masked = torch.where(counts, logarithm, logarithm.newFull([], -Infinity));
    const most = masked.amax([1], true);
    return torch.where(counts, masked.sub(most).exp_(), logarithm.newZeros([]));
  }
}
