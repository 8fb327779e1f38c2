/** In-batch softmax whose negatives weigh more the more alike they are. */
import { functional } from '../../nn';
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { negativeSums, ownSums, together, type NegativeSums } from './blocks';
import type { CommonOptions } from './common-options';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  checkTemperature,
  positionsOf,
  reduced,
  widened,
} from './parts';

/** What {@link hardnessWeighted} takes beside the pairs. */
export interface HardnessWeightedOptions extends CommonOptions {
  /** Hard negatives found for each anchor, [N, K, D]; they are negatives of the other anchors too. */
  negatives?: Tensor;
  /**
   * Which negatives are weighted: `'inBatch'`, those that come from other pairs, their hard negatives among them (default, as in LLaVE);
   * `'hardNegatives'`, an anchor's own hard negatives, as in EmbeddingGemma; or `'all'`.
   */
  weighted?: 'inBatch' | 'hardNegatives' | 'all';
  /** α, at least 0. Default 9, as in LLaVE; EmbeddingGemma has 5, sentence-transformers 0 unless told. */
  strength?: number;
  /** τ: a number, or a tensor of one element. Default 0.05: the scale of 20 that sentence-transformers has. LLaVE learns it. */
  temperature?: number | Tensor;
  /** int64 [N]: pairs with one id are no negatives of each other. Default: all differ. */
  ids?: Tensor;
}

/**
 * Hardness-weighted contrastive learning (Lan et al. 2025, "LLaVE: Large Language and Vision Embedding Models with Hardness-Weighted
 * Contrastive Learning"; for hard negatives Schechter Vera et al. 2025, "EmbeddingGemma: Powerful and Lightweight Text Representations"):
 * the in-batch softmax, each negative with a weight that grows with its likeness to the anchor.
 *
 *     lossᵢ = −log( exp(cᵢᵢ/τ) / (exp(cᵢᵢ/τ) + Σₙ wᵢₙ·exp(cᵢₙ/τ)) ),   wᵢₙ = exp(α·sg(cᵢₙ))
 *
 * c is the cosine and sg keeps gradients out. Negatives that are not weighted have w = 1. It is what sentence-transformers computes for
 * queries and documents with `hardness_mode`. With α = 0 it is {@link multipleNegatives}. An anchor without negatives has the loss 0.
 *
 * In a tiled form too: the weight is made a part of the score, with vectors twice as long, of which one half has no gradient.
 *
 * For retrieval, where a few hard negatives should count more than many easy ones.
 *
 * @param anchors [N, D], of any floating-point dtype
 * @param positives [N, D]: row i is the positive of anchor i
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function hardnessWeighted(anchors: Tensor, positives: Tensor, options: HardnessWeightedOptions = {}): Tensor {
  check(anchors, positives, options);
  const { negatives, weighted = 'inBatch', strength = 9, temperature = 0.05 } = options;
  const { execution = 'auto', reduction } = options;
  return withoutAutocast(anchors, () => {
    const [a, p, hard] = widened(anchors, positives, negatives ?? positives).map((x) => functional.normalize(x)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const ids = options.ids ?? positionsOf(a.sizeOf(0), a);
    const weightsOf = (which: 'inBatch' | 'hardNegatives'): number =>
      weighted === which || weighted === 'all' ? strength : 0;
    const inBatch = weightsOf('inBatch');
    const scaled = a.div(temperature);
    const rows = inBatch === 0 ? scaled : torch.cat([scaled, a.detach().mul(inBatch)], 1);
    const among = (x: Tensor, columnIds: Tensor): NegativeSums => {
      const columns = inBatch === 0 ? x : torch.cat([x, x.detach()], 1);
      return negativeSums({ rows, columns, rowIds: ids, columnIds }, ['rows'], { execution, mean: false }).rows;
    };
    const sets = [among(p, ids)];
    if (negatives !== undefined) {
      sets.push(among(hard.flatten(0, 1), ids.repeatInterleave(hard.sizeOf(1))));
      const cosines = hard.matmul(a.unsqueeze(2)).squeeze(2);
      const scores = cosines.div(temperature);
      sets.push(ownSums(scores.add(cosines.detach().mul(weightsOf('hardNegatives')))));
    }
    return reduced(softplus(together(sets).log.sub(scaled.mul(p).sum([1]))), reduction);
  });
}

function check(anchors: Tensor, positives: Tensor, options: HardnessWeightedOptions): void {
  const { negatives, weighted = 'inBatch', strength = 9, temperature = 0.05, ids } = options;
  const what = 'hardnessWeighted';
  checkPaired(anchors, positives, what, ['anchors', 'positives']);
  checkTemperature(temperature, what);
  checkNumber(strength, `${what}: strength`);
  if (weighted !== 'inBatch' && weighted !== 'hardNegatives' && weighted !== 'all') {
    throw new InvalidArgumentError(
      `${what}: weighted must be 'inBatch', 'hardNegatives' or 'all', found '${String(weighted)}'`,
    );
  }
  const [count, dimension] = anchors.shape as readonly [number, number];
  if (ids !== undefined) checkIds(ids, count, `${what}: ids`, anchors);
  if (negatives === undefined) return;
  const { shape } = negatives;
  const fits = shape.length === 3 && shape[0] === count && shape[2] === dimension && negatives.numel() > 0;
  if (!fits || !negatives.isFloatingPoint()) {
    throw new InvalidArgumentError(
      `${what}: negatives: expected floating-point [${count}, K, ${dimension}], found ${negatives.dtype} [${shape.join(', ')}]`,
    );
  }
  checkDevice(negatives, anchors, `${what}: negatives`);
}
