import type { Tensor } from '../torch';
import { checkDimensions3d } from './batch-norm3d';
import { SplitBatchNorm } from './split-batch-norm';

/** {@link SplitBatchNorm} for volumes or clips [N, C, D, H, W]. */
export class SplitBatchNorm3d extends SplitBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions3d(x, this.constructor.name);
  }
}
