import type { Tensor } from '../torch';
import { checkDimensions3d } from './batch-norm3d';
import { GhostBatchNorm } from './ghost-batch-norm';

/** {@link GhostBatchNorm} for volumes or clips [N, C, D, H, W]. */
export class GhostBatchNorm3d extends GhostBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions3d(x, this.constructor.name);
  }
}
