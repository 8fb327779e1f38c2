import type { Tensor } from '../torch';
import { BatchChannelNorm } from './batch-channel-norm';
import { checkDimensions2d } from './batch-norm2d';

/** {@link BatchChannelNorm} for images [N, C, H, W]. */
export class BatchChannelNorm2d extends BatchChannelNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
