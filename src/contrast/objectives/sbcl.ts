/** Subclass-balancing contrastive learning. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import { checkDevice, checkIds, checkNumber, checkShape, positionsOf, type Reduction } from './parts';

/** What {@link sbcl} takes beside the embeddings and labels. */
export interface SbclOptions {
  /** τ. Default 0.1. */
  temperature?: number;
  /** τ_base: the first term is multiplied by τ/τ_base. Default 0.07. */
  baseTemperature?: number;
  /** γ, the weight of the class term. Default 0.25. */
  classWeight?: number;
  /**
   * Each sample's temperature in the class term, [N], as the authors' ranking variant gives each class its own. Then samples of the same subclass do
   * not count in the class term, but for the anchor's own other views. Default: the plain variant.
   */
  rankingTemperatures?: Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * SBCL (Hou, Zhang, Wang and Zhou 2023, "Subclass-balancing Contrastive Learning for Long-tailed Recognition"): SupCon on two levels. Head classes
 * are cut into subclasses of about the size of a tail class, which balances classes; the class term keeps subclasses of a class near each other.
 *
 *     Lᵢ = (τ/τ_base) · 1/|Sᵢ| Σ_{p∈Sᵢ} −log( exp(sᵢₚ/τ) / Σ_{j≠i} exp(sᵢⱼ/τ) )
 *          + γ · 1/|Cᵢ| Σ_{p∈Cᵢ} −log( exp(sᵢₚ/τ) / Σ_{j≠i} exp(sᵢⱼ/τ) )
 *
 * S are the views of the same subclass, C those of the same class, over all V·N views; s is the cosine. With `rankingTemperatures` the class term
 * has in C and in the sum the samples of other subclasses and the anchor's other views only, and a temperature for each anchor. The authors find
 * subclasses by clustering each class anew during training; here they come from outside.
 *
 * @param views V ≥ 1 tensors [N, D]: row i of all belongs to sample i
 * @param labels int64 [N]
 * @param subclasses int64 [N]: unlike for samples of different classes
 * @returns the loss without dimensions, or [V·N] with reduction `'none'`. An anchor without a positive adds nothing to a term
 * @throws InvalidArgumentError if shapes do not fit
 */
export function sbcl(views: readonly Tensor[], labels: Tensor, subclasses: Tensor, options: SbclOptions = {}): Tensor {
  const { temperature = 0.1, baseTemperature = 0.07, classWeight = 0.25, rankingTemperatures } = options;
  const { reduction, execution } = options;
  const [first] = views;
  if (first === undefined) throw new InvalidArgumentError('sbcl: there are no views');
  checkEmbeddings(first, 'sbcl: view 0');
  const [count, dimension] = [first.sizeOf(0), first.sizeOf(1)];
  views.forEach((view, i) => {
    checkEmbeddings(view, `sbcl: view ${i}`, dimension, count);
    checkDevice(view, first, `sbcl: view ${i}`);
  });
  checkIds(labels, count, 'sbcl: labels', first);
  checkIds(subclasses, count, 'sbcl: subclasses', first);
  checkNumber(temperature, 'sbcl: temperature', { above: true });
  checkNumber(baseTemperature, 'sbcl: baseTemperature', { above: true });
  checkNumber(classWeight, 'sbcl: classWeight');
  if (rankingTemperatures !== undefined) {
    checkShape(rankingTemperatures, [count], 'sbcl: rankingTemperatures');
    if (views.length < 2) throw new InvalidArgumentError('sbcl: rankingTemperatures need at least two views');
  }
  const anchors = torch.cat([...views]);
  const [classes, groups] = [labels, subclasses].map((x) => x.repeat([views.length]));
  const self = positionsOf(anchors.sizeOf(0), anchors);
  const common = { anchors, reduction, execution };
  const among = (group: Tensor): Tensor =>
    contrast({
      ...common,
      candidates: { embeddings: anchors, labels: group, ids: self },
      labels: group,
      ids: self,
      temperature,
    });
  const near = among(groups!).mul(temperature / baseTemperature);
  if (rankingTemperatures === undefined) return near.add(among(classes!).mul(classWeight));
  const ranked = contrast({
    ...common,
    positives: torch.cat(
      views.map((_, v) =>
        torch.stack(
          views.filter((_, u) => u !== v),
          1,
        ),
      ),
    ),
    candidates: { embeddings: anchors, labels: classes!, ids: groups! },
    labels: classes!,
    ids: groups!,
    temperature: rankingTemperatures.repeat([views.length]),
  });
  return near.add(ranked.mul(classWeight));
}
