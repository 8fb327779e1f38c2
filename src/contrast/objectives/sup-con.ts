import { InvalidArgumentError, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { contrast } from '../contrast';
import { defineLink, softmaxLink } from '../link';
import type { SimilarityOptions } from './common-options';
import { positionsOf } from './parts';
import { checkEmbeddings } from '../similarity';

/** What {@link supCon} takes beside the embeddings and labels. */
export interface SupConOptions extends SimilarityOptions {
  /**
   * τ: a number, or a tensor of one element or one an anchor, [N]. Default 0.1, as in the paper; the authors' code and most libraries have
   * 0.07. The authors' code multiplies the loss by τ / 0.07, which is not done here.
   */
  temperature?: number | Tensor;
  /** Where the sum over positives stands: `'outside'` the logarithm (default, the paper's better one) or `'inside'`. */
  sum?: 'outside' | 'inside';
}

/** SupCon's other form. It has the mean of the positives in the logarithm, where the multi-positive InfoNCE has their sum. */
const meanInsideLink = defineLink({
  name: 'softmax of the mean',
  needs: {
    negatives: { kind: 'logSumExp', over: 'negatives', weighted: true },
    positives: { kind: 'logSumExp', over: 'positives' },
    count: { kind: 'count', over: 'positives' },
  },
  loss: ({ negatives, positives, count }) => softplus(negatives.sub(positives)).add(count.log()),
});

/**
 * SupCon (Khosla et al. 2020, "Supervised Contrastive Learning"): all embeddings with an anchor's label are its positives.
 *
 *     outside:  lossᵢ = −1/|P(i)| Σₚ log( exp(sᵢₚ) / Σ_{a ≠ i} exp(sᵢₐ) )
 *     inside:   lossᵢ = −log( 1/|P(i)| Σₚ exp(sᵢₚ) / Σ_{a ≠ i} exp(sᵢₐ) )
 *
 * with s = similarity / τ. An anchor never meets itself. Anchors whose label nobody else has are left out of the mean; the authors' code
 * gives no number there, copies of it count them as 0.
 *
 * For training with classes: give all views of the batch as one tensor, their labels repeated.
 *
 * @param embeddings [N, D], of any floating-point dtype
 * @param labels int64 [N]
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function supCon(embeddings: Tensor, labels: Tensor, options: SupConOptions = {}): Tensor {
  const { sum = 'outside', temperature = 0.1, ...common } = options;
  checkEmbeddings(embeddings, 'supCon: embeddings');
  if (sum !== 'outside' && sum !== 'inside') {
    throw new InvalidArgumentError(`supCon: sum must be 'outside' or 'inside', found '${String(sum)}'`);
  }
  const ids = positionsOf(embeddings.sizeOf(0), embeddings);
  return contrast({
    ...common,
    anchors: embeddings,
    candidates: { embeddings, labels, ids },
    labels,
    ids,
    temperature,
    link: sum === 'outside' ? softmaxLink : meanInsideLink,
  });
}
