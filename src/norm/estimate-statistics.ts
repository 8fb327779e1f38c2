import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { inScope, openScope } from '../torch/scope';
import type { AnyModule, Module } from '../nn';
import { BatchNorm } from './batch-norm';
import { BatchRenorm } from './batch-renorm';
import { isFrozen } from './freeze';
import { inMode, withForward } from './observe-forward';
import { UncenteredBatchNorm1d } from './uncentered-batch-norm1d';
import { Whitening } from './whitening';

/** How {@link estimateStatistics} goes about it. */
export interface EstimateStatisticsOptions<Batch> {
  /** Gives a batch to the model. Default: `model.forward(batch)`. */
  forward?: (batch: Batch) => unknown;
  /** Which norms, by module and dotted path. Default: all. */
  where?: (norm: AnyModule, path: string) => boolean;
  /**
   * `'pooled'` (default): the variance of all values about the mean of all, as if they were one batch. `'within'`: the mean of the
   * batches' own variances, weighted by their numbers of values, which leaves out how batch means scatter, as running averages do.
   */
  variance?: 'pooled' | 'within';
}

/** Sums over all that a norm was given so far, float64. */
interface Totals {
  count: number;
  batches: number;
  /** [C] */
  mean: Tensor;
  /** Sums of squared (whitening: products of) differences from the mean: [C] or [groups, d, d]. */
  squares: Tensor;
  /** Σ count · variance of the batch, unbiased for most. */
  within: Tensor;
}

/**
 * Works out running statistics on data anew, exactly: after one pass over the batches the running mean of each batch norm (and of each
 * whitening layer) is the mean of every value that it was given, and its running variance the unbiased variance of them all, or what
 * `variance` says. (Batch renormalisation keeps biased variances, uncentered batch norm the mean square.) Batches may differ in size: each value counts the same. Running averages, in contrast, forget all but some ten batches.
 *
 * The batches go through the model as in training, normalised by their own statistics, but everything else is in evaluation mode (no
 * dropout), as it will be when the statistics are used. The momentum plays no part and stays as it is, and so do modes, parameters and other
 * buffers. `numBatchesTracked` becomes the number of batches. Frozen norms and those without running statistics are left alone.
 *
 * After training with averaged weights, with small or split batches, or before evaluating on data of another kind.
 *
 * In float64 by pairwise merging of batches (Chan, Golub and LeVeque 1979), so values far from zero do not cancel. Re-estimation before
 * evaluation: Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, "precise BatchNorm".
 *
 * @param batches gone through once
 * @returns the dotted paths of the norms whose statistics are new, in the model's order
 * @throws InvalidArgumentError if there is no batch, or no norm to estimate for; on any error the statistics stay what they were
 */
export function estimateStatistics<Batch = Tensor>(
  model: AnyModule,
  batches: Iterable<Batch>,
  options: EstimateStatisticsOptions<Batch> = {},
): string[] {
  const { where = () => true, variance = 'pooled' } = options;
  const { forward = (batch: Batch) => (model as unknown as Module<[Batch], unknown>).forward(batch) } = options;
  const norms = new Map<AnyModule, string>();
  for (const [path, module] of model.namedModules()) {
    if (isEstimable(module) && !isFrozen(module) && where(module, path)) norms.set(module, path);
  }
  if (norms.size === 0) {
    throw new InvalidArgumentError(
      `estimateStatistics: ${model.constructor.name} has no norm with running statistics that is not frozen or left out`,
    );
  }
  const totals = new Map<AnyModule, Totals>();
  return noGrad(() =>
    scope(() => {
      const home = openScope();
      const buffers = [...model.namedBuffers().values()].map((buffer) => [buffer, buffer.clone()] as const);
      try {
        inMode(model, false, () => {
          for (const norm of norms.keys()) norm.training = true;
          withForward(
            norms.keys(),
            (module, inputs, compute) => {
              const before = totals.get(module);
              // The totals outlive the scopes that modules open for themselves.
              const sum = inScope(home, () => scope(() => merged(before, measured(module, inputs[0] as Tensor))));
              totals.set(module, sum);
              if (before !== undefined) [before.mean, before.squares, before.within].forEach((old) => old.dispose());
              return compute();
            },
            () => {
              for (const batch of batches) scope(() => void forward(batch));
            },
          );
        });
      } finally {
        for (const [buffer, copy] of buffers) buffer.copy_(copy);
      }
      if (totals.size === 0) {
        throw new InvalidArgumentError('estimateStatistics: there was no batch, or no norm was called for one');
      }
      const estimated = [...norms].filter(([norm]) => totals.has(norm));
      for (const [norm] of estimated) adopt(norm as BatchNorm | Whitening, totals.get(norm)!, variance);
      return estimated.map(([, path]) => path);
    }),
  );
}

function isEstimable(module: AnyModule): boolean {
  return (module instanceof BatchNorm || module instanceof Whitening) && module.runningMean !== null;
}

/** Totals of one batch. */
function measured(norm: AnyModule, x: Tensor): Totals {
  const channels = x.sizeOf(1);
  const rows = x.movedim(1, 0).reshape([channels, -1]).to({ dtype: 'float64' });
  const count = rows.sizeOf(1);
  const mean = rows.mean([1]);
  const centred = rows.sub(mean.unsqueeze(1));
  if (norm instanceof Whitening) {
    const planes = centred.reshape([norm.groups, -1, count]);
    const squares = torch.bmm(planes, planes.mT());
    return { count, batches: 1, mean, squares, within: squares };
  }
  const squares = centred.square().sum([1]);
  return { count, batches: 1, mean, squares, within: squares.mul(count / lessCorrection(norm, count)) };
}

/** What sums of squares over so many values are divided by: batch renormalisation keeps biased variances. */
function lessCorrection(norm: AnyModule, count: number): number {
  return norm instanceof BatchRenorm ? count : Math.max(count - 1, 1);
}

function merged(before: Totals | undefined, batch: Totals): Totals {
  if (before === undefined) return batch;
  const count = before.count + batch.count;
  const apart = batch.mean.sub(before.mean);
  const groups = batch.squares.ndim === 3 ? apart.reshape([batch.squares.sizeOf(0), -1, 1]) : null;
  const between = groups === null ? apart.square() : torch.bmm(groups, groups.mT());
  return {
    count,
    batches: before.batches + 1,
    mean: before.mean.add(apart, { alpha: batch.count / count }),
    squares: before.squares.add(batch.squares).add(between, { alpha: (before.count * batch.count) / count }),
    within: before.within.add(batch.within),
  };
}

function adopt(norm: BatchNorm | Whitening, totals: Totals, variance: 'pooled' | 'within'): void {
  const { count, batches, mean, squares, within } = totals;
  norm.numBatchesTracked?.fill_(batches);
  if (norm instanceof UncenteredBatchNorm1d) {
    // Its mean stays 0, and its variance is the mean square.
    norm.runningVar!.copy_(squares.div(count).add(mean.square()));
    return;
  }
  norm.runningMean!.copy_(mean);
  if (norm instanceof Whitening) {
    norm.adoptCovariance(variance === 'pooled' ? squares : within, count);
  } else {
    norm.runningVar?.copy_(variance === 'pooled' ? squares.div(lessCorrection(norm, count)) : within.div(count));
  }
}
