import { functional } from '../../nn';
import { InvalidArgumentError, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { checkEmbeddings } from '../similarity';
import type { Pairs } from '../statistics';
import { negativeSums, together } from './blocks';
import type { CommonOptions } from './common-options';
import { checkDevice, checkNumber, checkPaired, checkTemperature, positionsOf, reduced, widened } from './parts';

/** The guide's embeddings of the same samples, which get no gradient. Their dimension E is the guide's own. */
export interface GistGuides {
  /** [N, E] */
  anchors: Tensor;
  /** [N, E] */
  positives: Tensor;
  /** [M, E]; needed with negatives. */
  negatives?: Tensor;
}

/** What {@link gist} takes beside the embeddings and guides. */
export interface GistOptions extends CommonOptions {
  /** Hard negatives, [M, D], negatives of all anchors that the guide does not find too alike. */
  negatives?: Tensor;
  /** τ: a number, or a tensor of one element. Default 0.01, as in sentence-transformers. */
  temperature?: number | Tensor;
  /** How much less alike than the positive a negative must be for the guide. Default 0. */
  margin?: number;
  /** Whether the margin is a difference of cosines, `'absolute'` (default), or a share of the positive's, `'relative'`. */
  marginStrategy?: 'absolute' | 'relative';
  /** Whether the other anchors are negatives of an anchor. Default true, as in the paper. */
  contrastAnchors?: boolean;
  /** Whether the other positives are negatives of a positive, in its anchor's softmax. Default true, as in the paper. */
  contrastPositives?: boolean;
}

/**
 * GISTEmbed (Solatorio 2024, "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning"): a softmax over
 * the batch from which a guide, another model, takes the negatives that it finds too close to be some.
 *
 *     lossᵢ = −log( exp(a·pᵢᵢ) / (exp(a·pᵢᵢ) + Σⱼ exp(a·pᵢⱼ) + Σⱼ exp(a·aᵢⱼ) + Σⱼ exp(p·pᵢⱼ) + Σₘ exp(a·nᵢₘ)) )
 *
 * with cosines divided by τ. The sums are over j ≠ i and all m, without the pairs whose cosine by the guide is above a limit:
 * gᵢ − margin, or gᵢ − |gᵢ|·margin where it is relative, with gᵢ the guide's cosine of anchor i and its positive.
 *
 * An anchor never meets itself, nor does a positive: elsewhere this is left to the guide, and fails where an anchor and its positive are
 * the same. The positive always counts. An anchor without negatives has the loss 0.
 *
 * For fine-tuning text encoders on pairs whose batches hold unlabelled positives.
 *
 * @param anchors [N, D], of any floating-point dtype
 * @param positives [N, D]: row i is the positive of anchor i
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function gist(anchors: Tensor, positives: Tensor, guides: GistGuides, options: GistOptions = {}): Tensor {
  const { temperature = 0.01, contrastAnchors = true, contrastPositives = true } = options;
  const { execution = 'auto', reduction = 'mean' } = options;
  check(anchors, positives, guides, options);
  return withoutAutocast(anchors, () => {
    const unit = (x: Tensor): Tensor => functional.normalize(x);
    const wide = widened(anchors, positives, ...(options.negatives === undefined ? [] : [options.negatives]));
    const [a, p, n] = wide.map(unit) as [Tensor, Tensor, Tensor?];
    const guide = (x: Tensor): Tensor => unit(x.detach().to({ dtype: a.dtype }));
    const [guideA, guideP] = [guide(guides.anchors), guide(guides.positives)];
    const guideLimits = limitsOf(guideA.mul(guideP).sum([1]), options);
    const ids = positionsOf(a.sizeOf(0), a);
    const without = { guideLimits, rowIds: ids, columnIds: ids };
    const [scaledA, scaledP] = [a.div(temperature), p.div(temperature)];

    const blocks: Pairs[] = [{ ...without, rows: scaledA, columns: p, rowGuides: guideA, columnGuides: guideP }];
    if (contrastAnchors) {
      blocks.push({ ...without, rows: scaledA, columns: a, rowGuides: guideA, columnGuides: guideA });
    }
    if (contrastPositives) {
      blocks.push({ ...without, rows: scaledP, columns: p, rowGuides: guideP, columnGuides: guideP });
    }
    if (n !== undefined) {
      const columnGuides = guide(guides.negatives!);
      blocks.push({ guideLimits, rows: scaledA, columns: n, rowGuides: guideA, columnGuides });
    }
    const sums = blocks.map((block) => negativeSums(block, ['rows'], { execution, mean: false }).rows);
    const losses = softplus(together(sums).log.sub(scaledA.mul(p).sum([1])));
    return reduced(losses, reduction);
  });
}

function limitsOf(own: Tensor, { margin = 0, marginStrategy = 'absolute' }: GistOptions): Tensor {
  return marginStrategy === 'absolute' ? own.sub(margin) : own.sub(own.abs().mul(margin));
}

function check(anchors: Tensor, positives: Tensor, guides: GistGuides, options: GistOptions): void {
  const { negatives, temperature = 0.01, margin = 0, marginStrategy = 'absolute' } = options;
  checkPaired(anchors, positives, 'gist', ['anchors', 'positives']);
  checkTemperature(temperature, 'gist');
  checkNumber(margin, 'gist: margin', { low: -Infinity });
  if (marginStrategy !== 'absolute' && marginStrategy !== 'relative') {
    throw new InvalidArgumentError(
      `gist: marginStrategy must be 'absolute' or 'relative', found '${String(marginStrategy)}'`,
    );
  }
  checkEmbeddings(guides.anchors, 'gist: guides.anchors', undefined, anchors.sizeOf(0));
  const dimension = guides.anchors.sizeOf(1);
  checkEmbeddings(guides.positives, 'gist: guides.positives', dimension, anchors.sizeOf(0));
  checkDevice(guides.anchors, anchors, 'gist: guides.anchors');
  checkDevice(guides.positives, anchors, 'gist: guides.positives');
  if ((negatives === undefined) !== (guides.negatives === undefined)) {
    throw new InvalidArgumentError('gist: give both negatives and guides.negatives, or neither');
  }
  if (negatives === undefined || guides.negatives === undefined) return;
  checkEmbeddings(negatives, 'gist: negatives', anchors.sizeOf(1));
  checkEmbeddings(guides.negatives, 'gist: guides.negatives', dimension, negatives.sizeOf(0));
  checkDevice(negatives, anchors, 'gist: negatives');
  checkDevice(guides.negatives, anchors, 'gist: guides.negatives');
}
