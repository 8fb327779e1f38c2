import type { Tensor } from '../torch';
import { checkDimensions2d } from './batch-norm2d';
import { InstanceNorm } from './instance-norm';

/** {@link InstanceNorm} for images [N, C, H, W]. */
export class InstanceNorm2d extends InstanceNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
