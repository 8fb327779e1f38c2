import type { BatchNorm, BatchNormOptions } from './batch-norm';
import { BatchNorm2d } from './batch-norm2d';
import { DomainBatchNorm } from './domain-batch-norm';

/** {@link DomainBatchNorm} for images [N, C, H, W]. */
export class DomainBatchNorm2d extends DomainBatchNorm {
  protected override makeNorm(options: BatchNormOptions): BatchNorm {
    return new BatchNorm2d(options);
  }
}
