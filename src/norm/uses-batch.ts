/** Which norms make a sample's output depend on the samples beside it. */
import type { AnyModule } from '../nn';
import { BatchChannelNorm } from './batch-channel-norm';
import { BatchNorm } from './batch-norm';
import { BatchNorm1d } from './batch-norm1d';
import { BatchNorm2d } from './batch-norm2d';
import { BatchNorm3d } from './batch-norm3d';
import { ConvBN2d } from './conv-bn2d';
import { CrossIterationBatchNorm } from './cross-iteration-batch-norm';
import { CrossMiniBatchNorm } from './cross-mini-batch-norm';
import { PowerNorm } from './power-norm';
import { SplitBatchNorm } from './split-batch-norm';
import { SyncBatchNorm } from './sync-batch-norm';
import { UnMixTns } from './unmix-tns';
import { Whitening } from './whitening';

/**
 * The norms of a module that, as things stand, normalise samples by statistics of the batch that they come in.
 *
 * @internal
 */
export function batchDependentNorms(module: AnyModule): AnyModule[] {
  const modules = module.modules();
  // Such a block calls its norm in one of its modes only.
  const idle = new Set(
    modules.flatMap((block) => (block instanceof ConvBN2d && block.mode !== 'train' ? [block.bn] : [])),
  );
  return modules.filter((norm) => dependsOnBatch(norm) && !idle.has(norm as BatchNorm));
}

function dependsOnBatch(norm: AnyModule): boolean {
  if (norm instanceof BatchNorm || norm instanceof Whitening) return norm.training || norm.runningMean === null;
  if (norm instanceof BatchChannelNorm || norm instanceof PowerNorm) return norm.training;
  return norm instanceof UnMixTns;
}

/**
 * Whether a norm is, in training, batch normalisation by the mean and variance of the whole batch and nothing else.
 *
 * @internal
 */
export function isPlainBatchNorm(norm: AnyModule): norm is BatchNorm {
  if (norm instanceof SplitBatchNorm) return norm.splits === 1;
  if (norm instanceof SyncBatchNorm) return norm.exchange === null;
  return [BatchNorm1d, BatchNorm2d, BatchNorm3d].some((plain) => norm.constructor === plain);
}

/**
 * Whether a norm remembers forward passes in a way that a second pass over the same samples would disturb.
 *
 * @internal
 */
export function remembersPasses(norm: AnyModule): boolean {
  return norm instanceof CrossIterationBatchNorm || norm instanceof CrossMiniBatchNorm;
}
