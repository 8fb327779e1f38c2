/** Contrastive losses between modalities: every pair of them, or two encoders of the same thing. */
import { InvalidArgumentError, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import { clip } from './clip';
import type { Execution } from '../statistics';
import { checkNumber, checkPaired, checkTemperature, positionsOf, type Reduction } from './parts';
import { siglip } from './siglip';

/** What {@link modalityPairwise} takes beside the embeddings. */
export interface ModalityPairwiseOptions {
  /** τ, for all pairs. Default 0.07. */
  temperature?: number | Tensor;
  /** The weight of a pair, by the two names in the order of the modalities, with a comma between: `{ 'text,audio': 2 }`. Default 1. */
  weights?: Readonly<Record<string, number>>;
  /** Default `'mean'` over samples; the pairs are summed in each. */
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * The sum of unsupervised contrastive losses over all pairs of modalities (Franceschini et al. 2022, "Multimodal Emotion Recognition with
 * Modality-Pairwise Unsupervised Contrastive Loss"): one encoder a modality, joined in one space without labels.
 *
 *     L = Σ_{m<n} w_mn · ( InfoNCE(m → n) + InfoNCE(n → m) ) / 2
 *
 * with the cosine over a temperature, and the other samples of the batch as negatives. The authors' code has two segments of each sample: a
 * segment's positive is the other segment in the other modality, its counterpart there does not count, each loss is halved, and their mean over
 * the pairs is taken instead of the sum.
 *
 * @param modalities at least two tensors [N, D] by name: row i of all belongs to sample i
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for one sample
 * @throws InvalidArgumentError if there are fewer than two modalities, shapes do not fit, or a weight names no pair
 */
export function modalityPairwise(
  modalities: Readonly<Record<string, Tensor>>,
  options: ModalityPairwiseOptions = {},
): Tensor {
  const { temperature = 0.07, weights = {}, reduction, execution } = options;
  const names = Object.keys(modalities);
  if (names.length < 2) {
    throw new InvalidArgumentError(`modalityPairwise: there must be at least two modalities, found ${names.length}`);
  }
  checkTemperature(temperature, 'modalityPairwise');
  const pairs = names.flatMap((one, i) => names.slice(i + 1).map((other) => [one, other] as const));
  const known = new Set(pairs.map((pair) => pair.join()));
  for (const [pair, weight] of Object.entries(weights)) {
    if (!known.has(pair)) {
      throw new InvalidArgumentError(
        `modalityPairwise: weights: '${pair}' is no pair; there are ${[...known].join(' and ')}`,
      );
    }
    checkNumber(weight, `modalityPairwise: the weight of '${pair}'`);
  }
  for (const [one, other] of pairs) checkPaired(modalities[one]!, modalities[other]!, 'modalityPairwise', [one, other]);
  return pairs
    .map(([one, other]) => {
      const loss = bothWays(modalities[one]!, modalities[other]!, { temperature, reduction, execution });
      const weight = weights[`${one},${other}`] ?? 1;
      return weight === 1 ? loss : loss.mul(weight);
    })
    .reduce((sum, loss) => sum.add(loss));
}

/** What {@link generativeContrastiveAlignment} takes beside the embeddings. */
export interface GenerativeContrastiveAlignmentOptions {
  /** `'sigmoid'` (default, as the authors), or `'softmax'` for the symmetric InfoNCE of CLIP. */
  loss?: 'sigmoid' | 'softmax';
  /** τ: a number, or a tensor of one element that learns, as in the authors' code. Default 0.1, and 0.07 for the softmax. */
  temperature?: number | Tensor;
  /** b, for the sigmoid: a number, or a tensor of one element that learns, as in the authors' code. Default −10. */
  bias?: number | Tensor;
  /** Which encoder's embeddings get no gradient. Default `'contrastive'`, which the authors train first and then keep as it is. */
  frozen?: 'generative' | 'contrastive' | 'none';
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * Aligns a generative and a contrastive encoder of the same event sequences as if they were two modalities (Moskvoretskii et al. 2024, MLEM,
 * "Self-Supervised Learning in Event Sequences: A Comparative Study and Hybrid Approach of Generative Modeling and Contrastive Learning"), by the
 * objective of SigLIP:
 *
 *     L = −1/N Σᵢⱼ log σ( zᵢⱼ · (cos(gᵢ, cⱼ) / τ + b) ),   z = 1 where i = j, else −1
 *
 * The contrastive encoder is trained first. The generative one learns from this, with a weight of 10 in the authors' code, and from its own
 * reconstruction; its embeddings go to the task.
 *
 * @param generative [N, D]
 * @param contrastive [N, D]: row i is the embedding of the same sequence
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes or options do not fit
 */
export function generativeContrastiveAlignment(
  generative: Tensor,
  contrastive: Tensor,
  options: GenerativeContrastiveAlignmentOptions = {},
): Tensor {
  const { loss = 'sigmoid', temperature, bias, frozen = 'contrastive', reduction, execution } = options;
  const what = 'generativeContrastiveAlignment';
  checkPaired(generative, contrastive, what, ['generative', 'contrastive']);
  if (temperature !== undefined) checkTemperature(temperature, what);
  if (loss === 'softmax' && bias !== undefined) {
    throw new InvalidArgumentError(`${what}: a softmax has no bias; leave it out, or take the sigmoid`);
  }
  const first = frozen === 'generative' ? generative.detach() : generative;
  const second = frozen === 'contrastive' ? contrastive.detach() : contrastive;
  const common = { ...(reduction && { reduction }), ...(execution && { execution }) };
  if (loss === 'softmax') return clip(first, second, { ...common, temperature: temperature ?? 0.07 });
  return siglip(first, second, {
    ...common,
    ...(temperature !== undefined && { temperature }),
    ...(bias !== undefined && { bias }),
  });
}

function bothWays(
  first: Tensor,
  second: Tensor,
  options: { temperature: number | Tensor; reduction?: Reduction; execution?: Execution | 'auto' },
): Tensor {
  const labels = positionsOf(first.sizeOf(0), first);
  return contrast({ ...options, anchors: first, candidates: { embeddings: second, labels }, labels, symmetric: true });
}
