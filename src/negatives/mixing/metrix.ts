/** Metrix: mixup for metric learning. */
import { functional } from '../../nn';
import { InvalidArgumentError, scope, torch, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkDevice, checkIds, checkNumber, checkPaired, positionsOf, widened } from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { checkConcentration, checkShares, drawAllowed, drawBeta } from './mix';

/** How clean and mixed pairs become a loss. */
export type MetrixForm = 'contrastive' | 'multi-similarity';

/** Numbers of the forms of {@link metrix}. */
export interface MetrixFormOptions {
  /** Default `'contrastive'`. */
  form?: MetrixForm;
  /** m: for `'contrastive'`, the distance that negatives should keep, default 0.5; else the similarity between positives and negatives, default 0.5. */
  margin?: number;
  /** β of the multi-similarity form. Default 2. */
  positiveScale?: number;
  /** γ of the multi-similarity form. Default 50, as in pytorch-metric-learning and the paper that it comes from, by memory; others have 40. */
  negativeScale?: number;
  /** w, the weight of mixed pairs. Default 0.4, as in the authors' code. */
  weight?: number;
}

/** What {@link metrix} takes beside embeddings and labels. */
export interface MetrixOptions extends MetrixFormOptions {
  /** What negatives are mixed with: one of the anchor's positives, drawn anew each call (default), or the anchor itself. */
  mix?: 'positive' | 'anchor';
  /** α of Beta(α, α), from which one λ a call is drawn. Default 2, as in the authors' code. */
  alpha?: number;
  generator: Generator;
}

/**
 * Metrix (Venkataramanan, Psomas, Kijak, Amsaleg, Karantzalos and Avrithis 2022, "It Takes Two to Tango: Mixup for Deep Metric Learning"), on
 * embeddings: an anchor a is also compared with mixes v of a positive (or itself) and a negative, which are positives to the degree λ:
 *
 *     v = (λ p + (1 − λ) n) / ‖λ p + (1 − λ) n‖,   λ ~ Beta(α, α),   y = λ
 *
 *     contrastive:       L = mean⁺ d(a, p) + mean⁺ [m − d(a, n)]₊ + w ( mean⁺ y d(a, v) + mean⁺ (1 − y) [m − d(a, v)]₊ )
 *     multi-similarity:  Lₐ = 1/β log(1 + Σₚ e^{−β(s(a,p) − m)} + w Σᵥ y e^{−β(s(a,v) − m)}) + 1/γ log(1 + Σₙ e^{γ(s(a,n) − m)} + w Σᵥ (1 − y) e^{γ(s(a,v) − m)})
 *
 * with s the cosine, d = √(2 − 2s), and mean⁺ over the pairs whose term is above 0. Each anchor with a positive meets one mix for each of its
 * negatives, as in the authors' code, whose contrastive form this is; with `'anchor'` so does every anchor. The multi-similarity form (mean over
 * anchors with a positive) follows a description of the authors' code and was not checked against the paper, which was not to be had.
 * Gradients flow through mixes and all they are made of. Only the [N, N] similarities are held: those with mixes follow from them.
 *
 * To mix inputs or features instead, take {@link metrixTriples} and {@link metrixMixed}.
 *
 * For supervised metric learning, to reach parts of the space between the classes.
 *
 * @param embeddings [N, D], of any floating-point dtype
 * @param labels int64 [N]
 * @returns the loss without dimensions; 0 where there are no pairs
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit, before anything is drawn
 */
export function metrix(embeddings: Tensor, labels: Tensor, options: MetrixOptions): Tensor {
  const { mix = 'positive', alpha = 2, generator } = options;
  checkEmbeddings(embeddings, 'metrix: embeddings');
  checkIds(labels, embeddings.sizeOf(0), 'metrix: labels', embeddings);
  checkConcentration(alpha, 'metrix: alpha');
  const settings = checkedForm(options, 'metrix');
  return withoutAutocast(embeddings, () =>
    scope(() => {
      const z = functional.normalize(widened(embeddings)[0]);
      const { positives, negatives } = pairsOf(labels);
      const partners = mix === 'anchor' ? positionsOf(z.sizeOf(0), z) : drawAllowed(positives, generator);
      const share = drawBeta([], alpha, generator).to({ dtype: z.dtype, device: z.device });
      const rest = share.neg().add(1);
      const similarity = z.matmul(z.t());
      // p·n for the partner p of each anchor, and a·p for it.
      const between = similarity.indexSelect(0, partners);
      const own = similarity.gather(1, partners.unsqueeze(1));
      const length = share
        .square()
        .add(rest.square())
        .add(between.mul(share.mul(rest)).mul(2))
        .clampMin(1e-24)
        .sqrt();
      const mixed = own.mul(share).add(similarity.mul(rest)).div(length);
      const counts = mix === 'anchor' ? negatives : negatives.logicalAnd(positives.any(1, true));
      return combined(settings, similarity, positives, negatives, mixed, share, counts);
    }),
  );
}

/** Which samples {@link metrixTriples} puts together. */
export interface MetrixTriples {
  /** int64 [M]: anchors, left as they are. */
  anchors: Tensor;
  /** int64 [M]: what is mixed with share λ, a positive of the anchor or the anchor. */
  firsts: Tensor;
  /** int64 [M]: what is mixed with share 1 − λ, the anchor's nearest negative. */
  seconds: Tensor;
  /** [M], all the same: λ ~ Beta(α, α). */
  lambda: Tensor;
}

/**
 * Which inputs or features to mix for {@link metrixMixed}: for each anchor with a positive (every anchor with `'anchor'`) and a negative, a random
 * positive and the negative that the clean embeddings find nearest. The authors' code sorts distances and takes the first as well.
 *
 * ```ts
 * const { anchors, firsts, seconds, lambda } = metrixTriples(clean, labels, { generator });
 * const mixed = encoder.forward(images.indexSelect(0, firsts).lerp(images.indexSelect(0, seconds), 1 - lambda …));
 * const loss = cleanLoss.add(metrixMixed(clean.indexSelect(0, anchors), mixed, lambda).mul(0.4));
 * ```
 *
 * @param embeddings [N, D] of the inputs as they are; only read
 * @param labels int64 [N]
 * @returns of M anchors, possibly 0
 */
export function metrixTriples(
  embeddings: Tensor,
  labels: Tensor,
  options: Pick<MetrixOptions, 'mix' | 'alpha' | 'generator'>,
): MetrixTriples {
  const { mix = 'positive', alpha = 2, generator } = options;
  checkEmbeddings(embeddings, 'metrixTriples: embeddings');
  checkIds(labels, embeddings.sizeOf(0), 'metrixTriples: labels', embeddings);
  checkConcentration(alpha, 'metrixTriples: alpha');
  return scope(() => {
    const z = functional.normalize(widened(embeddings.detach())[0]);
    const { positives, negatives } = pairsOf(labels);
    const partners = mix === 'anchor' ? positionsOf(z.sizeOf(0), z) : drawAllowed(positives, generator);
    const nearest = z.matmul(z.t()).maskedFill(negatives.logicalNot(), -Infinity).argmax(1);
    const has = mix === 'anchor' ? negatives.any(1) : negatives.any(1).logicalAnd(positives.any(1));
    const anchors = has.nonzero().squeeze(1);
    const share = drawBeta([], alpha, generator).to({ dtype: z.dtype, device: z.device });
    return {
      anchors,
      firsts: partners.indexSelect(0, anchors),
      seconds: nearest.indexSelect(0, anchors),
      lambda: share.expand([anchors.numel()]).contiguous(),
    };
  });
}

/**
 * The mixed part of {@link metrix} for pairs that were mixed elsewhere, in inputs or features, without the weight w:
 *
 *     contrastive:  mean⁺ y d(a, v) + mean⁺ (1 − y) [m − d(a, v)]₊
 *
 * @param anchors [M, D]: embeddings of the anchors
 * @param mixed [M, D]: embeddings of what was mixed; row i belongs to anchor i
 * @param lambda [M]: how much of a positive each is, y
 * @returns the loss without dimensions; differentiable through both
 * @throws InvalidArgumentError if shapes, dtypes, devices or the margin do not fit
 */
export function metrixMixed(
  anchors: Tensor,
  mixed: Tensor,
  lambda: Tensor,
  options: Pick<MetrixFormOptions, 'margin'> = {},
): Tensor {
  const { margin } = checkedForm(options, 'metrixMixed');
  checkPaired(anchors, mixed, 'metrixMixed', ['anchors', 'mixed']);
  checkShares(lambda, anchors.sizeOf(0), anchors, 'metrixMixed: lambda');
  return withoutAutocast(anchors, () =>
    scope(() => {
      const [a, v] = widened(anchors, mixed).map((x) => functional.normalize(x)) as [Tensor, Tensor];
      return softPairs(distance(a.mul(v).sum([1])), lambda.to({ dtype: a.dtype }), margin);
    }),
  );
}

/**
 * Utilization (same paper): how near, on the mean, test queries are to what training has seen, by Euclidean distance of unit vectors. Smaller with
 * mixes among what was seen means that mixes reach where test samples are.
 *
 * @param queries [N, D]
 * @param seen [K, D]: training embeddings, with mixes or without
 */
export function metrixUtilization(queries: Tensor, seen: Tensor): Tensor {
  checkEmbeddings(queries, 'metrixUtilization: queries');
  checkEmbeddings(seen, 'metrixUtilization: seen', queries.sizeOf(1));
  checkDevice(seen, queries, 'metrixUtilization: seen');
  return withoutAutocast(queries, () =>
    scope(() => {
      const [q, z] = widened(queries, seen).map((x) => functional.normalize(x.detach())) as [Tensor, Tensor];
      const rows = Math.max(1, Math.floor((1 << 22) / z.sizeOf(0)));
      const nearest = q.split(rows).map((some) => scope(() => some.matmul(z.t()).amax([1])));
      return torch.cat(nearest).mul(-2).add(2).clampMin(0).sqrt().mean();
    }),
  );
}

interface Form {
  form: MetrixForm;
  margin: number;
  positiveScale: number;
  negativeScale: number;
  weight: number;
}

function checkedForm(options: MetrixFormOptions, what: string): Form {
  const { form = 'contrastive', margin = 0.5, positiveScale = 2, negativeScale = 50, weight = 0.4 } = options;
  if (form !== 'contrastive' && form !== 'multi-similarity') {
    throw new InvalidArgumentError(
      `${what}: form must be 'contrastive' or 'multi-similarity', found '${String(form)}'`,
    );
  }
  checkNumber(margin, `${what}: margin`, { low: -2, high: 2 });
  checkNumber(positiveScale, `${what}: positiveScale`, { above: true });
  checkNumber(negativeScale, `${what}: negativeScale`, { above: true });
  checkNumber(weight, `${what}: weight`);
  return { form, margin, positiveScale, negativeScale, weight };
}

/** Which pairs are positive and which negative: bool [N, N] each, no sample with itself. */
function pairsOf(labels: Tensor): { positives: Tensor; negatives: Tensor } {
  const same = labels.unsqueeze(1).eq(labels);
  return { positives: same.clone().fillDiagonal_(0), negatives: same.logicalNot() };
}

function combined(
  { form, margin, positiveScale, negativeScale, weight }: Form,
  similarity: Tensor,
  positives: Tensor,
  negatives: Tensor,
  mixed: Tensor,
  share: Tensor,
  counts: Tensor,
): Tensor {
  if (form === 'contrastive') {
    const clean = distance(similarity);
    const near = meanAboveZero(clean.maskedSelect(positives));
    const far = meanAboveZero(clean.maskedSelect(negatives).neg().add(margin).relu());
    return near.add(far).add(softPairs(distance(mixed.maskedSelect(counts)), share, margin).mul(weight));
  }
  const rest = share.neg().add(1);
  const log = (x: Tensor, mask: Tensor): Tensor => x.maskedFill(mask.logicalNot(), -Infinity);
  const terms = (scale: number, clean: Tensor, part: Tensor): Tensor => {
    const of = (x: Tensor): Tensor => x.sub(margin).mul(scale);
    const all = [log(of(similarity), clean), log(of(mixed).add(part.mul(weight).log()), counts)];
    return logOnePlusSum(torch.cat(all, 1)).div(Math.abs(scale));
  };
  const losses = terms(-positiveScale, positives, share).add(terms(negativeScale, negatives, rest));
  const has = positives.any(1);
  return torch.where(has, losses, losses.newZeros([])).sum().div(has.sum().clampMin(1));
}

/** log(1 + Σ exp(x)) along rows, x possibly −∞. */
function logOnePlusSum(x: Tensor): Tensor {
  const zero = x.newZeros([x.sizeOf(0), 1]);
  return torch.cat([zero, x], 1).logsumexp([1]);
}

/** Euclidean distance of unit vectors from their cosine; 0, without a gradient, where they are the same. */
function distance(similarity: Tensor): Tensor {
  const square = similarity.mul(-2).add(2);
  const apart = square.gt(1e-14);
  return torch.where(apart, torch.where(apart, square, square.newOnes([])).sqrt(), square.newZeros([]));
}

function softPairs(distances: Tensor, share: Tensor, margin: number): Tensor {
  const near = meanAboveZero(distances.mul(share));
  return near.add(meanAboveZero(distances.neg().add(margin).relu().mul(share.neg().add(1))));
}

function meanAboveZero(terms: Tensor): Tensor {
  return terms.sum().div(terms.gt(0).sum().clampMin(1));
}
