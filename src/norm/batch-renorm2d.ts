import type { Tensor } from '../torch';
import { checkDimensions2d } from './batch-norm2d';
import { BatchRenorm } from './batch-renorm';

/** {@link BatchRenorm} for images [N, C, H, W]. */
export class BatchRenorm2d extends BatchRenorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
