import type { BatchNorm, BatchNormOptions } from './batch-norm';
import { BatchNorm1d } from './batch-norm1d';
import { DomainBatchNorm } from './domain-batch-norm';

/** {@link DomainBatchNorm} for vectors [N, C] or sequences [N, C, L]. */
export class DomainBatchNorm1d extends DomainBatchNorm {
  protected override makeNorm(options: BatchNormOptions): BatchNorm {
    return new BatchNorm1d(options);
  }
}
