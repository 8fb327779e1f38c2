/** Contrastive losses between modalities: every pair of them, or two encoders of the same thing. */
import { InvalidArgumentError, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import type { Execution } from '../statistics';
import { checkNumber, checkPaired, checkTemperature, positionsOf, type Reduction } from './parts';

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
 * with the cosine over a temperature, and the other samples of the batch as negatives. That each pair's loss is the symmetric InfoNCE is from
 * memory of the paper, which was not to be had.
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
  /** τ. Default 0.07. */
  temperature?: number | Tensor;
  /** Which encoder's embeddings get no gradient, so that the other follows it. Default: both learn. */
  frozen?: 'generative' | 'contrastive';
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * Aligns a generative and a contrastive encoder of the same event sequences as if they were two modalities ("Self-Supervised Learning in Event
 * Sequences: A Comparative Study and Hybrid Approach of Generative Modeling and Contrastive Learning", 2024): the symmetric InfoNCE of both.
 *
 *     L = ( InfoNCE(generative → contrastive) + InfoNCE(contrastive → generative) ) / 2
 *
 * Afterwards either embedding, or both side by side, go to the task. The formula is from memory of the paper, which was not to be had.
 *
 * @param generative [N, D]
 * @param contrastive [N, D]: row i is the embedding of the same sequence
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for one sequence
 * @throws InvalidArgumentError if shapes do not fit
 */
export function generativeContrastiveAlignment(
  generative: Tensor,
  contrastive: Tensor,
  options: GenerativeContrastiveAlignmentOptions = {},
): Tensor {
  const { temperature = 0.07, frozen, reduction, execution } = options;
  checkPaired(generative, contrastive, 'generativeContrastiveAlignment', ['generative', 'contrastive']);
  checkTemperature(temperature, 'generativeContrastiveAlignment');
  const first = frozen === 'generative' ? generative.detach() : generative;
  const second = frozen === 'contrastive' ? contrastive.detach() : contrastive;
  return bothWays(first, second, { temperature, reduction, execution });
}

function bothWays(
  first: Tensor,
  second: Tensor,
  options: { temperature: number | Tensor; reduction?: Reduction; execution?: Execution | 'auto' },
): Tensor {
  const labels = positionsOf(first.sizeOf(0), first);
  return contrast({ ...options, anchors: first, candidates: { embeddings: second, labels }, labels, symmetric: true });
}
