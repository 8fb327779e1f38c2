import type { Tensor } from '../torch';
import { checkDimensions3d } from './batch-norm3d';
import { BatchRenorm } from './batch-renorm';

/** {@link BatchRenorm} for volumes or clips [N, C, D, H, W]. */
export class BatchRenorm3d extends BatchRenorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions3d(x, this.constructor.name);
  }
}
