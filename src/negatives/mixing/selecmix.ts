/** SelecMix: mixing only pairs that contradict the bias of the data. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import {
  checkIds,
  checkNumber,
  checkShape,
  positionsOf,
  reduced,
  widened,
  type Reduction,
} from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { checkConcentration, checkInputs, drawBeta, drawUnit, mixup, type MixedInputs } from './mix';

/** Which pairs contradict: of one label and unlike, of two labels and alike, or one of both, by a fair coin for each batch. */
export type ContradictingPairs = 'same-label' | 'other-label' | 'either';

/** What {@link contradictingPartners} gives. */
export interface ContradictingPartners {
  /** int64 [N]; the sample itself where there is no such pair. */
  partners: Tensor;
  /** bool [N]: whether there is one. */
  found: Tensor;
}

/**
 * With whom each sample contradicts the bias: of those with its label the one least like it, or of those with another label the one most like
 * it, by the features of a model that has learned the bias.
 *
 * The authors' code multiplies similarities by the mask, so that where all others are below 0 it finds a sample of the wrong kind; here only
 * the right kind is searched.
 *
 * @param similarity [N, N] of the biased features; only read
 * @param labels int64 [N]
 */
export function contradictingPartners(
  similarity: Tensor,
  labels: Tensor,
  pairs: Exclude<ContradictingPairs, 'either'>,
): ContradictingPartners {
  checkEmbeddings(similarity, 'contradictingPartners: similarity', similarity.shape[0]);
  checkIds(labels, similarity.sizeOf(0), 'contradictingPartners: labels', similarity);
  return noGrad(() =>
    scope(() => {
      const same = labels.unsqueeze(1).eq(labels);
      const allowed = pairs === 'same-label' ? same.fillDiagonal_(0) : same.logicalNot_();
      const scores = pairs === 'same-label' ? similarity.neg() : similarity;
      const found = allowed.any(1);
      const best = scores.maskedFill(allowed.logicalNot(), -Infinity).argmax(1);
      return { partners: torch.where(found, best, positionsOf(labels.numel(), labels)), found };
    }),
  );
}

/** What {@link selecMix} takes beside the batch. */
export interface SelecMixOptions {
  /** Default `'either'`. */
  pairs?: ContradictingPairs;
  /** α of Beta(α, α). Default 1, as in the authors' code. */
  alpha?: number;
  generator: Generator;
}

/** What {@link selecMix} gives. */
export interface SelecMixed extends MixedInputs {
  /** int64 [N]: the label of each mix, its partner's. */
  labels: Tensor;
  /** bool [N]: which were mixed; the others stand as they are. */
  found: Tensor;
}

/**
 * SelecMix (Hwang, Lee, Kwak, Oh, Teney, Kim and Zhang 2022, "SelecMix: Debiased Learning by Contradicting-pair Sampling"): mixup of
 * {@link contradictingPartners} only, where the partner has the larger share and gives the label:
 *
 *     x̃ᵢ = λ xᵢ + (1 − λ) x_partner(i),   λ = ½ Beta(α, α),   ỹᵢ = y_partner(i)
 *
 * Checked against the authors' code. For classification and supervised contrast where an easy feature predicts most labels. The features come
 * from a second model trained beside, with {@link generalizedSupCon}.
 *
 * @param inputs [N, …], floating-point
 * @param labels int64 [N]
 * @param similarity [N, N] of the biased features
 * @throws InvalidArgumentError if shapes, dtypes, devices or α do not fit, before anything is drawn
 */
export function selecMix(inputs: Tensor, labels: Tensor, similarity: Tensor, options: SelecMixOptions): SelecMixed {
  const { pairs = 'either', alpha = 1, generator } = options;
  checkInputs(inputs, 'selecMix: inputs');
  const count = inputs.sizeOf(0);
  checkIds(labels, count, 'selecMix: labels', inputs);
  checkEmbeddings(similarity, 'selecMix: similarity', count, count);
  checkConcentration(alpha, 'selecMix: alpha');
  if (!['same-label', 'other-label', 'either'].includes(pairs)) {
    throw new InvalidArgumentError(
      `selecMix: pairs must be 'same-label', 'other-label' or 'either', found '${String(pairs)}'`,
    );
  }
  return scope(() => {
    const coin = pairs === 'either' ? Number(drawUnit([], generator).itemSync()) : 0;
    const kind = pairs === 'either' ? (coin > 0.5 ? 'same-label' : 'other-label') : pairs;
    const { partners, found } = contradictingPartners(similarity, labels, kind);
    const dtype = inputs.dtype === 'float64' ? 'float64' : 'float32';
    const lambda = drawBeta([count], alpha, generator).mul(0.5).to({ dtype, device: inputs.device });
    return {
      inputs: mixup(inputs, partners, lambda),
      partners,
      lambda,
      labels: labels.indexSelect(0, partners),
      found,
    };
  });
}

/** What {@link generalizedSupCon} takes beside embeddings and labels. */
export interface GeneralizedSupConOptions {
  /** τ. Default 0.2, as in the authors' code. */
  temperature?: number;
  /** q: 0 would weigh all pairs alike; the larger, the more those weigh that are predicted already. Default 0.7, as in the authors' code. */
  q?: number;
  /** `'mean'` (default) over all samples, those without a positive included with a loss of 0; `'sum'`, or `'none'`. */
  reduction?: Reduction;
}

/**
 * Generalised supervised contrast (same paper): SupCon whose pairs weigh by how likely they are already, as in generalised cross-entropy, so that it
 * learns what is easy, the bias, first:
 *
 *     lossᵢ = −1/|P(i)| Σₚ q·pᵢₚ^q · log pᵢₚ,   pᵢₚ = exp(cos(zᵢ, zₚ)/τ) / Σ_{a≠i} exp(cos(zᵢ, zₐ)/τ)
 *
 * The weight q·p^q has no gradient. Checked against the authors' code. It is computed densely. For the auxiliary model of {@link selecMix}.
 *
 * @param embeddings [N, D], of any floating-point dtype
 * @param labels int64 [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function generalizedSupCon(embeddings: Tensor, labels: Tensor, options: GeneralizedSupConOptions = {}): Tensor {
  const { temperature = 0.2, q = 0.7, reduction } = options;
  checkEmbeddings(embeddings, 'generalizedSupCon: embeddings');
  checkIds(labels, embeddings.sizeOf(0), 'generalizedSupCon: labels', embeddings);
  checkNumber(temperature, 'generalizedSupCon: temperature', { above: true });
  checkNumber(q, 'generalizedSupCon: q', { above: true, high: 1 });
  checkShape(labels, [embeddings.sizeOf(0)], 'generalizedSupCon: labels');
  return withoutAutocast(embeddings, () =>
    scope(() => {
      const z = functional.normalize(widened(embeddings)[0]);
      const count = z.sizeOf(0);
      if (count === 1) return reduced(z.sum([1]).mul(0), reduction);
      const self = torch.eye(count, { dtype: 'bool', device: z.device });
      const logits = z.matmul(z.t()).div(temperature).maskedFill(self, -Infinity).logSoftmax(1);
      const positives = labels.unsqueeze(1).eq(labels).fillDiagonal_(0);
      const kept = torch.where(positives, logits, logits.newZeros([]));
      const weights = kept.detach().mul(q).exp().mul(q);
      const losses = kept
        .mul(weights)
        .sum([1])
        .neg()
        .div(positives.sum([1]).clampMin(1));
      return reduced(losses, reduction);
    }),
  );
}
