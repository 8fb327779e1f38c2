/** The batch-norm family and its replacements. */
export { BatchNorm, type BatchNormOptions } from './batch-norm';
export { BatchNorm1d } from './batch-norm1d';
export { BatchNorm2d } from './batch-norm2d';
export { shuffledBatch } from './shuffle-batch-norm';
export { SplitBatchNorm, type SplitBatchNormOptions } from './split-batch-norm';
export { SplitBatchNorm1d } from './split-batch-norm1d';
export { SplitBatchNorm2d } from './split-batch-norm2d';
