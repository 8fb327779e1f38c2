/** Several views of a batch, each an anchor and a candidate of the others. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import type { ContrastOptions } from '../contrast';
import { checkEmbeddings } from '../similarity';
import { checkPaired, positionsOf } from './parts';

/**
 * All views as anchors and as candidates: the other views of a sample are its positives, those of other samples negatives, and no
 * embedding meets itself.
 *
 * @param views two or more, [N, D] each; row i of all of them is sample i
 * @throws InvalidArgumentError naming `what`
 */
export function amongViews(
  views: readonly Tensor[],
  what: string,
): Required<Pick<ContrastOptions, 'anchors' | 'candidates' | 'labels' | 'ids'>> {
  const [first] = views;
  if (first === undefined || views.length < 2) {
    throw new InvalidArgumentError(`${what}: views must be two tensors or more, found ${views.length}`);
  }
  checkEmbeddings(first, `${what}: views[0]`);
  views.slice(1).forEach((view, i) => {
    checkPaired(first, view, what, ['views[0]', `views[${i + 1}]`]);
  });
  const anchors = torch.cat([...views]);
  const labels = positionsOf(first.sizeOf(0), first).repeat([views.length]);
  const ids = positionsOf(anchors.sizeOf(0), first);
  return { anchors, candidates: { embeddings: anchors, labels, ids }, labels, ids };
}
