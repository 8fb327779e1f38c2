import type { Tensor } from '../torch';
import { checkDimensions1d } from './batch-norm1d';
import { SplitBatchNorm } from './split-batch-norm';

/** {@link SplitBatchNorm} for vectors [N, C] or sequences [N, C, L]. */
export class SplitBatchNorm1d extends SplitBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions1d(x, this.constructor.name);
  }
}
