import type { BatchNorm, BatchNormOptions } from './batch-norm';
import { BatchNorm3d } from './batch-norm3d';
import { DomainBatchNorm } from './domain-batch-norm';

/** {@link DomainBatchNorm} for volumes [N, C, D, H, W]. */
export class DomainBatchNorm3d extends DomainBatchNorm {
  protected override makeNorm(options: BatchNormOptions): BatchNorm {
    return new BatchNorm3d(options);
  }
}
