import type { Tensor } from '../torch';
import { checkDimensions2d } from './batch-norm2d';
import { SplitBatchNorm } from './split-batch-norm';

/** {@link SplitBatchNorm} for images [N, C, H, W]. */
export class SplitBatchNorm2d extends SplitBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
