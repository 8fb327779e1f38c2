import type { Tensor } from '../torch';
import { checkDimensions1d } from './batch-norm1d';
import { BatchRenorm } from './batch-renorm';

/** {@link BatchRenorm} for vectors [N, C] or sequences [N, C, L]. */
export class BatchRenorm1d extends BatchRenorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions1d(x, this.constructor.name);
  }
}
