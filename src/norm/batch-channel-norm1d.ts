import type { Tensor } from '../torch';
import { BatchChannelNorm } from './batch-channel-norm';
import { checkDimensions1d } from './batch-norm1d';

/** {@link BatchChannelNorm} for vectors [N, C] or sequences [N, C, L]. */
export class BatchChannelNorm1d extends BatchChannelNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions1d(x, this.constructor.name);
  }
}
