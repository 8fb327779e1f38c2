/** Non-negative embeddings of length one, and how far class means are from an orthogonal frame. */
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { Module, functional } from '../nn';
import { numberWithin } from '../nn/checks';

/**
 * ReLU, then length one: y = max(x, 0) / max(‖max(x, 0)‖, eps) a row, for x [N, D]. The end of a projection head for supervised contrastive
 * losses (SCL + ReLU): among non-negative embeddings the best ones put the classes at right angles, whatever the sizes of the classes,
 * where without ReLU small classes are crowded together.
 *
 * A row without a positive element becomes zero, and gets no gradient. No parameters, no state; training and evaluation are the same. Give
 * the result to a loss that does not normalise again, or does so without harm.
 *
 * For supervised contrastive training with unequal classes; needs at least as many dimensions as classes. See also `BatchBindingSampler`.
 *
 * Kini et al. 2024, Symmetric Neural-Collapse Representations with Supervised Contrastive Loss: The Impact of ReLU and Batching.
 */
export class ReluNormalize extends Module {
  readonly eps: number;

  /** @param options `eps` (default 1e-12): the least length to divide by */
  constructor(options: { eps?: number } = {}) {
    super();
    this.eps = numberWithin(0, Infinity, options.eps ?? 1e-12, 'ReluNormalize: eps');
  }

  /** @throws InvalidArgumentError unless `x` is [N, D] */
  override forward(x: Tensor): Tensor {
    if (x.ndim !== 2) {
      throw new InvalidArgumentError(`ReluNormalize: expected [N, D], found shape [${x.shape.join(', ')}]`);
    }
    return functional.normalize(x.relu(), { eps: this.eps });
  }
}

/**
 * How far the class means of embeddings are from an orthogonal frame, vectors of one length at right angles: with G the matrix of the class
 * means' dot products and k the number of classes,
 *
 *     ‖ G / ‖G‖ − I / √k ‖    (Frobenius norms)
 *
 * 0 for an orthogonal frame of any scale, √(2 − 2 / √k) where all classes share one mean.
 *
 * @param embeddings [N, D]
 * @param labels [N] integers: the class of each row
 * @returns a number, worked out in float64; NaN where all means are zero
 * @throws InvalidArgumentError if labels and embeddings do not fit or there are no rows
 *
 * Kini et al. 2024, Symmetric Neural-Collapse Representations with Supervised Contrastive Loss: The Impact of ReLU and Batching. (The
 * formula follows their measure of convergence as we know it; it could not be checked against the paper's text.)
 */
export function orthogonalFrameDistance(embeddings: Tensor, labels: Tensor): number {
  if (embeddings.ndim !== 2 || embeddings.sizeOf(0) === 0 || labels.shape.join() !== String(embeddings.sizeOf(0))) {
    throw new InvalidArgumentError(
      `orthogonalFrameDistance: expected embeddings [N, D] and labels [N], found [${embeddings.shape.join(', ')}] and ` +
        `[${labels.shape.join(', ')}]`,
    );
  }
  return noGrad(() =>
    scope(() => {
      const values = embeddings.to({ dtype: 'float64' });
      const [, classes] = torch.uniqueDim(labels, 0, true, true);
      const count = classes.max().itemSync() + 1;
      const members = torch.oneHot(classes, count).to({ dtype: 'float64' });
      const means = members
        .t()
        .matmul(values)
        .div(members.sum([0]).unsqueeze(1));
      const gram = means.matmul(means.t());
      const frame = torch.eye(count, { dtype: 'float64', device: values.device }).div(Math.sqrt(count));
      return gram.div(gram.square().sum().sqrt()).sub(frame).square().sum().sqrt().itemSync();
    }),
  );
}
