import type { Tensor } from '../torch';
import { checkDimensions2d } from './batch-norm2d';
import { GhostBatchNorm } from './ghost-batch-norm';

/** {@link GhostBatchNorm} for images [N, C, H, W]. */
export class GhostBatchNorm2d extends GhostBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
