/** CCC-wav2vec 2.0: cross-contrastive speech pre-training with clustered negatives. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { checkDevice, checkIds, checkNumber, checkPaired, reduced, widened, type Reduction } from './parts';

/** One side of the cross-contrastive loss: the frames of the original or of the augmented audio. */
export interface SpeechFrames {
  /** [N, D]: what the context network gives at N masked frames. */
  contexts: Tensor;
  /** [N, D]: the quantised targets of the same frames. */
  targets: Tensor;
  /** int64 [N, K]: which of the targets are each frame's negatives. */
  negatives: Tensor;
  /** int64 [N]: each target's cluster. Default: none, and no negative is scaled down. */
  clusters?: Tensor;
}

/** What {@link cccWav2Vec2} takes beside the frames. */
export interface CccWav2Vec2Options {
  /** τ. Default 0.1, as wav2vec 2.0. */
  temperature?: number;
  /** By which the scores of negatives in the positive's cluster are multiplied, from 0 to 1. Default 0.3, as the authors' function. */
  scale?: number;
  /** α, β and γ, the weights of the loss and of the two cross terms. Default 1 each. */
  weights?: readonly [number, number, number];
  /** `'mean'` (default) or `'sum'` over frames, as wav2vec 2.0 sums them, or `'none'`. */
  reduction?: Reduction;
}

/**
 * CCC-wav2vec 2.0 (Lodagala, Ghosh and Umesh 2022, "CCC-wav2vec 2.0: Clustering aided Cross Contrastive Self-supervised learning of speech
 * representations"): wav2vec 2.0's loss, that of the original's contexts with the augmentation's targets, and the reverse.
 *
 *     L = α·ℓ(c, q, q⁻) + β·ℓ(c, q′, q′⁻) + γ·ℓ(c′, q, q⁻)
 *     ℓ = −log( exp(s⁺) / (exp(s⁺) + Σₖ exp(mₖ·sₖ⁻)) ),   s = cosine / τ
 *     mₖ = scale if negative k is in the positive's cluster, else 1
 *
 * It is the score that is multiplied, not its exponential: scores near 1/τ fall, negative ones rise. A negative equal to the positive does not
 * count. The authors' released function scales only in batches where some negative equals its positive; here it is always done. Clusters come
 * from outside: the authors run k-means on the targets of both sides, by the cosine.
 *
 * It is computed densely over the sampled negatives, [N, K, D].
 *
 * @param original the original audio's frames
 * @param augmented the augmented audio's, the same N frames in the same order. Its clusters are to be of the same clustering
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for frames whose negatives all equal the positive
 * @throws InvalidArgumentError if shapes do not fit
 */
export function cccWav2Vec2(original: SpeechFrames, augmented: SpeechFrames, options: CccWav2Vec2Options = {}): Tensor {
  const { temperature = 0.1, scale = 0.3, weights = [1, 1, 1], reduction } = options;
  checkNumber(temperature, 'cccWav2Vec2: temperature', { above: true });
  checkNumber(scale, 'cccWav2Vec2: scale', { high: 1 });
  checkFrames(original, 'original');
  checkFrames(augmented, 'augmented');
  checkPaired(original.contexts, augmented.contexts, 'cccWav2Vec2', ['original.contexts', 'augmented.contexts']);
  return withoutAutocast(original.contexts, () => {
    const lossOf = (contexts: Tensor, { targets, negatives, clusters }: SpeechFrames): Tensor => {
      const [wideContexts, wideTargets] = widened(contexts, targets);
      const rows = functional.normalize(wideContexts).div(temperature);
      const all = functional.normalize(wideTargets);
      const [count, drawn] = [negatives.sizeOf(0), negatives.sizeOf(1)];
      const gathered = all.indexSelect(0, negatives.reshape([-1])).reshape([count, drawn, -1]);
      const own = rows.mul(all).sum([1]);
      const plain = rows.unsqueeze(1).mul(gathered).sum([2]);
      const taken = targets
        .detach()
        .indexSelect(0, negatives.reshape([-1]))
        .reshape([count, drawn, -1]);
      const equal = taken.eq(targets.detach().unsqueeze(1)).all(2);
      let scores = plain;
      if (clusters !== undefined) {
        const same = clusters
          .indexSelect(0, negatives.reshape([-1]))
          .reshape([count, drawn])
          .eq(clusters.unsqueeze(1));
        scores = torch.where(same, plain.mul(scale), plain);
      }
      return torch
        .cat([own.unsqueeze(1), scores.maskedFill(equal, -Infinity)], 1)
        .logsumexp([1])
        .sub(own);
    };
    const terms = [
      lossOf(original.contexts, original),
      lossOf(original.contexts, augmented),
      lossOf(augmented.contexts, original),
    ];
    const losses = terms.map((term, i) => term.mul(weights[i]!)).reduce((sum, term) => sum.add(term));
    return reduced(losses, reduction);
  });
}

function checkFrames({ contexts, targets, negatives, clusters }: SpeechFrames, name: string): void {
  checkPaired(contexts, targets, 'cccWav2Vec2', [`${name}.contexts`, `${name}.targets`]);
  const count = contexts.sizeOf(0);
  if (negatives.dtype !== 'int64' || negatives.ndim !== 2 || negatives.sizeOf(0) !== count || negatives.numel() === 0) {
    throw new InvalidArgumentError(
      `cccWav2Vec2: ${name}.negatives: expected int64 of shape [${count}, K], found ${negatives.dtype} [${negatives.shape.join(', ')}]`,
    );
  }
  checkDevice(negatives, contexts, `cccWav2Vec2: ${name}.negatives`);
  if (clusters !== undefined) checkIds(clusters, count, `cccWav2Vec2: ${name}.clusters`, contexts);
}
