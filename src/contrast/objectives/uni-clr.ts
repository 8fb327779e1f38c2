/** UniCLR: inliers drawn together, each outlier kept apart from everything. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { contrast } from '../contrast';
import type { CommonOptions } from './common-options';
import { checkIds, checkNumber, checkTemperature, partitionLink, positionsOf, reduced, widened } from './parts';
import { amongViews } from './views';

/** What {@link uniClr} takes beside the views. */
export interface UniClrOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.5, as in the paper. */
  temperature?: number | Tensor;
  /** τ_ω of the weights of inliers. Default 0.5, as in the paper; null for inliers that weigh the same. */
  weightTemperature?: number | null;
  /** int64 [N]: classes of the inliers, which are then drawn together class by class. Default: one class. */
  labels?: Tensor;
}

/**
 * The objective of UniCon-HA (Wang et al. 2023, "Unilaterally Aggregated Contrastive Learning with Hierarchical Augmentation for Anomaly
 * Detection"): SupCon for the inliers, which are one class, and NT-Xent for virtual outliers, each of which is a class of its own.
 *
 *     lossᵢ = −Σ_{p∈P(i)} ωₚ log( exp(sᵢₚ) / Σ_{a≠i} exp(sᵢₐ) ) / Σ_{p∈P(i)} ωₚ,   s = cosine / τ
 *     ωₚ = Σ_{q∈P(p)} exp(cosine(p, q) / τ_ω)
 *
 * For a view of an inlier, P are all views of all other inliers and its own other views; for a view of an outlier its other views, with equal
 * weights. The sum over a goes over the whole batch. An augmented inlier that has left the others so draws them less. Weights have no
 * gradient. The paper's sixth equation has both samples' weights within the logarithm, where they would not weigh anything; here they stand
 * before it, as its text tells of them, and the anchor's own cancels.
 *
 * The paper takes the mean of this over four stages of a network, with augmentations that grow stronger, weights of their own (its λ), and
 * ω in the last stage only; outliers are images turned by 90, 180 and 270 degrees. The score of a new sample is the greatest cosine to a
 * training sample. With weights, a matrix of the inliers' views is held; the sum over the batch has a tiled form.
 *
 * For anomaly detection with outliers made by augmentation.
 *
 * @param inliers V ≥ 2 views, [N, D] each: row i of all belongs to sample i
 * @param outliers as many views, [M, D] each
 * @returns the loss without dimensions; with reduction `'none'` [V·(N + M)], view by view, inliers before outliers
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function uniClr(inliers: readonly Tensor[], outliers: readonly Tensor[], options: UniClrOptions = {}): Tensor {
  const { temperature = 0.5, weightTemperature = 0.5, labels, reduction, execution } = options;
  const ins = amongViews(inliers, 'uniClr: inliers').anchors;
  const outs = amongViews(outliers, 'uniClr: outliers').anchors;
  const [views, count] = [inliers.length, inliers[0]!.sizeOf(0)];
  if (outliers.length !== views || ins.sizeOf(1) !== outs.sizeOf(1) || ins.device !== outs.device) {
    throw new InvalidArgumentError(
      `uniClr: inliers and outliers must have as many views, of one dimension, on one device; found ${views} views [${ins.sizeOf(0) / views}, ${ins.sizeOf(1)}] and ${outliers.length} views [${outs.sizeOf(0) / outliers.length}, ${outs.sizeOf(1)}]`,
    );
  }
  checkTemperature(temperature, 'uniClr');
  if (weightTemperature !== null) checkNumber(weightTemperature, 'uniClr: weightTemperature', { above: true });
  if (labels !== undefined) checkIds(labels, count, 'uniClr: labels', ins);
  const classes = (labels ?? torch.zeros([count], { dtype: 'int64', device: ins.device })).repeat([views]);
  return withoutAutocast(ins, () => {
    const [x, y] = widened(ins, outs).map((z) => functional.normalize(z)) as [Tensor, Tensor];
    const anchors = torch.cat([x, y]);
    const ids = positionsOf(anchors.sizeOf(0), anchors);
    const among = { anchors, similarity: 'dot', ids, temperature, execution } as const;
    if (weightTemperature === null) {
      const apart = positionsOf(outliers[0]!.sizeOf(0), y).repeat([views]).add(classes.max()).add(1);
      const groups = torch.cat([classes, apart]);
      return contrast({
        ...among,
        candidates: { embeddings: anchors, labels: groups, ids },
        labels: groups,
        reduction,
      });
    }
    const sums = contrast({
      ...among,
      candidates: { embeddings: anchors, ids },
      link: partitionLink,
      reduction: 'none',
    });
    const shares = noGrad(() => sharesOf(x, classes, weightTemperature));
    const bySample = y.reshape([views, -1, y.sizeOf(1)]);
    const others = bySample
      .sum([0], true)
      .sub(bySample)
      .div(views - 1)
      .reshape(y.shape);
    const pulled = anchors.mul(torch.cat([shares.matmul(x), others])).sum([1]);
    return reduced(sums.sub(pulled.div(temperature)), reduction);
  });
}

/** What each positive counts for each inlier, [V·N, V·N]; rows sum to 1. */
function sharesOf(x: Tensor, classes: Tensor, temperature: number): Tensor {
  const self = torch.eye(x.sizeOf(0), { dtype: 'bool', device: x.device });
  const apart = classes.unsqueeze(1).ne(classes.unsqueeze(0)).logicalOr(self);
  const weights = x.matmul(x.t()).div(temperature).maskedFill(apart, -Infinity).logsumexp([1]);
  return weights.unsqueeze(0).expand(apart.shape).maskedFill(apart, -Infinity).softmax(1);
}
