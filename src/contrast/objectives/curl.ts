/** The losses of the theory of contrastive learning with latent classes. */
import { InvalidArgumentError, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import { softmaxOfSumLink } from '../link';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import { checkDevice, checkPaired, positionsOf, reduced, widened, type Reduction } from './parts';

/** What {@link curl} takes beside the embeddings. */
export interface CurlOptions {
  /** `'logistic'` (default) or `'hinge'`. */
  loss?: 'logistic' | 'hinge';
  /** [K, D], shared by all anchors, or [N, K, D], each anchor's own. Default: the other anchors' positives. */
  negatives?: Tensor;
  reduction?: Reduction;
  /** For the logistic loss; the hinge loss is dense. */
  execution?: Execution | 'auto';
}

/**
 * The tuple losses of Arora, Khandeparkar, Khodak, Plevrakis and Saunshi 2019, "A Theoretical Analysis of Contrastive Unsupervised
 * Representation Learning": the inner product with a similar sample should exceed those with negatives.
 *
 *     vᵢₖ = xᵢ·xᵢ⁺ − xᵢ·xₖ⁻
 *     logistic: Lᵢ = log(1 + Σₖ exp(−vᵢₖ))      hinge: Lᵢ = max(0, 1 + maxₖ(−vᵢₖ))
 *
 * Embeddings are not taken to length one and there is no temperature. The logarithm is natural, where the paper has base 2: divide by log 2
 * for its values. Low values carry over to the mean classifier of the latent classes.
 *
 * @param anchors [N, D]
 * @param positives [N, D]
 * @returns the loss without dimensions, or [N] with reduction `'none'`. An anchor without negatives (N = 1, none given) has 0
 * @throws InvalidArgumentError if shapes do not fit
 */
export function curl(anchors: Tensor, positives: Tensor, options: CurlOptions = {}): Tensor {
  const { loss = 'logistic', negatives, reduction, execution } = options;
  checkPaired(anchors, positives, 'curl', ['anchors', 'positives']);
  checkNegatives(anchors, negatives);
  if (loss === 'hinge') return withoutAutocast(anchors, () => reduced(hinge(anchors, positives, negatives), reduction));
  const common = {
    anchors,
    similarity: 'dot',
    temperature: 1,
    link: softmaxOfSumLink,
    reduction,
    execution,
  } as const;
  if (negatives === undefined) {
    const labels = positionsOf(anchors.sizeOf(0), anchors);
    return contrast({ ...common, candidates: { embeddings: positives, labels }, labels });
  }
  return negatives.ndim === 2
    ? contrast({ ...common, positives, candidates: { embeddings: negatives } })
    : contrast({ ...common, positives, negatives });
}

function checkNegatives(anchors: Tensor, negatives: Tensor | undefined): void {
  if (negatives === undefined) return;
  checkDevice(negatives, anchors, 'curl: negatives');
  const [count, dimension] = [anchors.sizeOf(0), anchors.sizeOf(1)];
  if (negatives.ndim === 2) checkEmbeddings(negatives, 'curl: negatives', dimension);
  else if (
    negatives.ndim !== 3 ||
    negatives.sizeOf(0) !== count ||
    negatives.sizeOf(2) !== dimension ||
    negatives.numel() === 0
  ) {
    throw new InvalidArgumentError(
      `curl: negatives: expected shape [K, ${dimension}] or [${count}, K, ${dimension}], found [${negatives.shape.join(', ')}]`,
    );
  }
}

function hinge(anchors: Tensor, positives: Tensor, negatives: Tensor | undefined): Tensor {
  const [x, own, others] = widened(anchors, positives, negatives ?? positives);
  const scores = others.ndim === 3 ? x.unsqueeze(1).mul(others).sum([2]) : x.matmul(others.t());
  const among = negatives === undefined ? scores.fillDiagonal_(-Infinity) : scores;
  return among
    .amax([1])
    .sub(x.mul(own).sum([1]))
    .add(1)
    .relu();
}

/** What {@link curlBlock} takes beside the embeddings. */
export interface CurlBlockOptions {
  /** `'logistic'` (default) or `'hinge'`. */
  loss?: 'logistic' | 'hinge';
  reduction?: Reduction;
}

/**
 * The block form of {@link curl} (Arora et al. 2019): an anchor is compared with the means of blocks of samples that share a latent class, which
 * bounds the supervised loss more tightly.
 *
 *     vᵢₖ = xᵢ·( mean over b of x⁺ᵢᵦ − mean over b of x⁻ᵢₖᵦ )
 *
 * @param anchors [N, D]
 * @param positives [N, B, D]: a block of samples like the anchor
 * @param negatives [N, B′, D], one block of negatives an anchor, or [N, K, B′, D]
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes do not fit
 */
export function curlBlock(
  anchors: Tensor,
  positives: Tensor,
  negatives: Tensor,
  options: CurlBlockOptions = {},
): Tensor {
  const [count, dimension] = [anchors.sizeOf(0), anchors.sizeOf(1)];
  for (const [name, block, dimensions] of [
    ['positives', positives, [3]],
    ['negatives', negatives, [3, 4]],
  ] as const) {
    const { shape } = block;
    const fits = (dimensions as readonly number[]).includes(shape.length);
    if (!fits || shape[0] !== count || shape.at(-1) !== dimension || block.numel() === 0) {
      const expected =
        name === 'positives'
          ? `[${count}, B, ${dimension}]`
          : `[${count}, B, ${dimension}] or [${count}, K, B, ${dimension}]`;
      throw new InvalidArgumentError(`curlBlock: ${name}: expected shape ${expected}, found [${shape.join(', ')}]`);
    }
  }
  const [wideAnchors, widePositives, wideNegatives] = widened(anchors, positives, negatives);
  const blocks = wideNegatives.ndim === 3 ? wideNegatives.unsqueeze(1) : wideNegatives;
  return curl(wideAnchors, widePositives.mean([1]), { ...options, negatives: blocks.mean([2]) });
}
