/** SUMix: the share of each source in a mix, as the model itself sees it. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  reduced,
  widened,
  type Reduction,
} from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { checkMix } from './mix';

/** What the parts of SUMix take: the batch before and after mixing. */
export interface SUMixBatch {
  /** [N, C]: logits of the inputs as they are. */
  clean: Tensor;
  /** [N, C]: logits of the mixes. */
  mixed: Tensor;
  /** int64 [N] */
  labels: Tensor;
  /** int64 [N]: with whom each was mixed. */
  partners: Tensor;
  /** [N]: each input's share by area or by weight. */
  lambda: Tensor;
}

/** What {@link suMix} takes beside the batch. */
export interface SUMixOptions {
  /** [N, C] each: logits of a second linear layer beside the classifier, of the inputs and of the mixes. Default: none, and no term of uncertainty. */
  uncertainty?: { clean: Tensor; mixed: Tensor };
  /** γ, the weight of that term. Default 0.5, as in the authors' configurations. */
  gamma?: number;
  /** By what distances are multiplied. Default N, the batch size, as in the authors' code; name it where batches differ in size. */
  scale?: number;
  /** `'mean'` (default) over the mixes, `'sum'`, or `'none'`. */
  reduction?: Reduction;
}

/**
 * The shares of SUMix: how much of input i is in its mix, by how far the model's prediction for the mix is from those for both sources:
 *
 *     aᵢ = scale · unit( softmax( p̃ᵢ − pᵢ[y_partner := 0] ) ),   bᵢ = scale · unit( softmax( p̃ᵢ − p_partner[yᵢ := 0] ) )
 *     λ̂ᵢ = λᵢ e^{−aᵢ[yᵢ]} / ( λᵢ e^{−aᵢ[yᵢ]} + (1 − λᵢ) e^{−bᵢ[y_partner]} )
 *
 * with p = softmax of the logits, `[y := 0]` with that class's number replaced by 0, and unit() scaling to length one. Without gradients.
 *
 * @returns [N], float32 or float64
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function suMixShares(batch: SUMixBatch, scale = batch.clean.sizeOf(0)): Tensor {
  checkBatch(batch, 'suMixShares');
  checkNumber(scale, 'suMixShares: scale', { above: true });
  return withoutAutocast(batch.clean, () => noGrad(() => scope(() => sharesOf(batch, apartness(batch, scale)))));
}

/**
 * SUMix (Qin, Jin, Zhu, Liao, El-Yacoubi and Gao 2024, "SUMix: Mixup with Semantic and Uncertain Information"): cross-entropy of mixes with
 * shares as {@link suMixShares} finds them, and a term that learns how uncertain a mix is:
 *
 *     lossᵢ = λ̂ᵢ CE(l̃ᵢ, yᵢ) + (1 − λ̂ᵢ) CE(l̃ᵢ, y_partner) + γ ( λᵢ CE(e^{−(aᵢ + uᵢ)}, yᵢ) + (1 − λᵢ) CE(e^{−(bᵢ + u′ᵢ)}, y_partner) )
 *     uᵢ = unit(softmax(clean uncertaintyᵢ)) + unit(softmax(mixed uncertaintyᵢ)),   u′ᵢ with the partner's clean one
 *
 * Follows the authors' code, where e^{…} are taken for logits; the paper was not to be had. Gradients flow through the logits of the mixes in
 * the first part and through the uncertainties in the second.
 *
 * For classification with CutMix and its like, where area says little about what is left to see.
 *
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function suMix(batch: SUMixBatch, options: SUMixOptions = {}): Tensor {
  const { uncertainty, gamma = 0.5, scale = batch.clean.sizeOf(0), reduction } = options;
  checkBatch(batch, 'suMix');
  checkNumber(gamma, 'suMix: gamma');
  checkNumber(scale, 'suMix: scale', { above: true });
  const [count, classes] = batch.clean.shape as [number, number];
  if (uncertainty !== undefined) {
    for (const side of ['clean', 'mixed'] as const) {
      checkEmbeddings(uncertainty[side], `suMix: uncertainty.${side}`, classes, count);
      checkDevice(uncertainty[side], batch.clean, `suMix: uncertainty.${side}`);
    }
  }
  return withoutAutocast(batch.clean, () =>
    scope(() => {
      const { labels, partners } = batch;
      const others = labels.indexSelect(0, partners);
      const [logits] = widened(batch.mixed);
      const distances = noGrad(() => apartness(batch, scale));
      const share = noGrad(() => sharesOf(batch, distances));
      const main = between(share, crossEntropy(logits, labels), crossEntropy(logits, others));
      if (uncertainty === undefined) return reduced(main, reduction);
      const [clean, mixed] = widened(uncertainty.clean, uncertainty.mixed).map((x) =>
        functional.normalize(x.softmax(1)),
      ) as [Tensor, Tensor];
      const first = distances[0].add(clean).add(mixed).neg().exp();
      const second = distances[1].add(clean.indexSelect(0, partners)).add(mixed).neg().exp();
      const [lambda] = widened(batch.lambda);
      const unsure = between(
        lambda.to({ dtype: first.dtype }),
        crossEntropy(first, labels),
        crossEntropy(second, others),
      );
      return reduced(main.add(unsure.mul(gamma)), reduction);
    }),
  );
}

/** a and b of {@link suMixShares}. */
function apartness({ clean, mixed, labels, partners }: SUMixBatch, scale: number): readonly [Tensor, Tensor] {
  const [own, mix] = widened(clean, mixed).map((x) => x.detach().softmax(1)) as [Tensor, Tensor];
  const without = (x: Tensor, classes: Tensor): Tensor => x.scatter(1, classes.unsqueeze(1), 0);
  const far = (x: Tensor): Tensor => functional.normalize(mix.sub(x).softmax(1)).mul(scale);
  const others = labels.indexSelect(0, partners);
  return [far(without(own, others)), far(without(own.indexSelect(0, partners), labels))];
}

function sharesOf({ labels, partners, lambda }: SUMixBatch, [a, b]: readonly [Tensor, Tensor]): Tensor {
  const of = (x: Tensor, classes: Tensor): Tensor => x.gather(1, classes.unsqueeze(1)).squeeze(1);
  const share = lambda.to({ dtype: a.dtype });
  // As a logistic function of logarithms: the exponentials alone would vanish for large batches.
  return share
    .logit()
    .sub(of(a, labels))
    .add(of(b, labels.indexSelect(0, partners)))
    .sigmoid();
}

function between(share: Tensor, own: Tensor, other: Tensor): Tensor {
  return other.lerp(own, share);
}

function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  return logits.logSoftmax(1).gather(1, labels.unsqueeze(1)).squeeze(1).neg();
}

function checkBatch({ clean, mixed, labels, partners, lambda }: SUMixBatch, what: string): void {
  checkPaired(clean, mixed, what, ['clean', 'mixed']);
  checkIds(labels, clean.sizeOf(0), `${what}: labels`, clean);
  checkMix(partners, lambda, clean.sizeOf(0), clean, what);
  if (clean.sizeOf(1) < 2) throw new InvalidArgumentError(`${what}: there must be two classes or more`);
}
