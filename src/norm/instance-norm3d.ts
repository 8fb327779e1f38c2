import type { Tensor } from '../torch';
import { checkDimensions3d } from './batch-norm3d';
import { InstanceNorm } from './instance-norm';

/** {@link InstanceNorm} for volumes or clips [N, C, D, H, W]. */
export class InstanceNorm3d extends InstanceNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions3d(x, this.constructor.name);
  }
}
