import type { Tensor } from '../torch';
import { BatchNorm1d } from './batch-norm1d';
import { uncenteredNorm } from './operators';

/**
 * Batch normalisation that takes no mean away: y = γ x / √(q + eps) + β a channel, for [N, C] or [N, C, L], where q is the mean of
 * x² over the batch in training and its running mean in evaluation. (The authors' code has no eps, no γ and β, and always the
 * batch's q.)
 *
 * Options, state and errors are those of {@link BatchNorm1d}: `runningVar` holds the running q and `runningMean` stays at 0, so
 * evaluation is plain batch normalisation, and the layer turns into one by copying its state.
 *
 * The layer for which gradients stay bounded at any depth, in {@link OrthogonalBatchNormMLP}.
 *
 * Meterez, Joudaki, Orabona, Immer, Rätsch and Daneshmand 2024, Towards Training Without Depth Limits: Batch Normalization Without
 * Gradient Explosion.
 */
export class UncenteredBatchNorm1d extends BatchNorm1d {
  protected override normalize(x: Tensor, mean: Tensor | null, variance: Tensor | null, momentum: number): Tensor {
    if (!this.training && mean !== null) return super.normalize(x, mean, variance, momentum);
    const { weight, bias, eps } = this;
    const running = this.training ? variance : null;
    return uncenteredNorm(x, { weight, bias, eps, sizes: [x.sizeOf(0)], running, momentum });
  }
}
