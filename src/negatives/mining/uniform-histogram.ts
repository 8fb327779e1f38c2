import { positiveInteger } from '../../nn/checks';
import { torch, type Generator, type Tensor } from '../../torch';
import { Randomised } from '../randomised';
import { distancesOf, elements, mined, whereTrue, type MinerBatch, type MinerOptions } from './miner';
import type { PairIndices } from './pairs-and-triplets';

/** What {@link UniformHistogramMiner} takes. */
export interface UniformHistogramOptions extends MinerOptions {
  /** Ranges of equal width between the smallest and the largest distance of pairs. Default: 100. */
  bins?: number;
  /** Positive pairs drawn of each range. Default: 10. */
  positivesPerBin?: number;
  /** Negative pairs drawn of each range. Default: 10. */
  negativesPerBin?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/**
 * Pairs whose distances are spread evenly: the distances of all positive pairs are split into ranges of equal width, and from each range that
 * has any, as many pairs are drawn, with repetition; the same for negative pairs. Made known by the library PyTorch Metric Learning; there is no paper. The
 * draw is on the CPU, so that it is the same on every device.
 *
 * For pair losses, to see rare distances as often as common ones.
 */
export class UniformHistogramMiner extends Randomised {
  readonly bins: number;
  readonly positivesPerBin: number;
  readonly negativesPerBin: number;
  readonly #options: MinerOptions;

  constructor(options: UniformHistogramOptions = {}) {
    const { bins = 100, positivesPerBin = 10, negativesPerBin = 10, seed = 0, ...rest } = options;
    super('UniformHistogramMiner', seed);
    this.bins = positiveInteger(bins, 'UniformHistogramMiner: bins');
    this.positivesPerBin = positiveInteger(positivesPerBin, 'UniformHistogramMiner: positivesPerBin');
    this.negativesPerBin = positiveInteger(negativesPerBin, 'UniformHistogramMiner: negativesPerBin');
    this.#options = rest;
  }

  /**
   * Draws pairs; of each kind at most `bins` times as many as are drawn of a range, in the order of distance.
   *
   * @throws InvalidArgumentError naming what does not fit, before anything is drawn
   */
  mine(batch: MinerBatch): PairIndices {
    return mined(batch, this.#options, 'UniformHistogramMiner', (prepared) => {
      const distances = distancesOf(prepared, this.#options);
      const [anchors1, positives] = this.#draw(distances, prepared.positives, this.positivesPerBin);
      const [anchors2, negatives] = this.#draw(distances, prepared.negatives, this.negativesPerBin);
      return { anchors1, positives, anchors2, negatives };
    });
  }

  #draw(distances: Tensor, mask: Tensor, perBin: number): [anchors: Tensor, others: Tensor] {
    const [anchors, others] = whereTrue(mask);
    const { bins, generator } = this;
    const shares = torch
      .rand([bins, perBin], { dtype: 'float64', generator, device: generator.device })
      .to({ device: distances.device });
    if (anchors.numel() === 0) return [anchors, others];
    const values = elements(distances, anchors, others).to({ dtype: 'float64' });
    const [least, most] = [values.amin(), values.amax()];
    const width = most.sub(least);
    const place = values
      .sub(least)
      .div(torch.where(width.gt(0), width, width.newOnes([])))
      .mul(bins);
    const bin = place
      .floor()
      .clampMax(bins - 1)
      .to({ dtype: 'int64' });
    const order = bin.argsort({ stable: true });
    const counts = torch.bincount(bin, null, bins);
    const starts = counts.cumsum(0).sub(counts);
    const within = shares.mul(counts.unsqueeze(1)).floor().to({ dtype: 'int64' });
    const filled = counts.gt(0).nonzero().squeeze(1);
    const chosen = order.take(starts.unsqueeze(1).add(within).indexSelect(0, filled).flatten());
    return [anchors.indexSelect(0, chosen), others.indexSelect(0, chosen)];
  }
}
