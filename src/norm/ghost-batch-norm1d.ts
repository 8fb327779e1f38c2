import type { Tensor } from '../torch';
import { checkDimensions1d } from './batch-norm1d';
import { GhostBatchNorm } from './ghost-batch-norm';

/** {@link GhostBatchNorm} for vectors [N, C] or sequences [N, C, L]. */
export class GhostBatchNorm1d extends GhostBatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions1d(x, this.constructor.name);
  }
}
