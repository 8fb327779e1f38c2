import { InvalidArgumentError, scope, type Tensor } from '../torch';
import type { AnyModule, Parameter } from '../nn';
import { InstanceNorm } from './instance-norm';
import { isNorm } from './norm-only';

/** Which norms {@link freezeNorms} concerns, and what of them. */
export interface FreezeNormsOptions {
  /** Whether their parameters stop being trained, too; their gradients are then forgotten. Default false. */
  affine?: boolean;
  /** Says of a norm, with its dotted path in the module, whether it is concerned. Default: every norm. */
  where?: (norm: AnyModule, path: string) => boolean;
}

/** Layers that keep running statistics, by the names that all of them share. */
interface RunningNorm extends AnyModule {
  readonly numBatchesTracked: Tensor | null;
  readonly runningMean?: Tensor | null;
  readonly runningVar?: Tensor | null;
}

interface Frozen {
  /** What `train()` or `eval()` last asked for, or null for a layer whose mode is its own. */
  mode: boolean | null;
  /** The parameters that were trained before. */
  parameters: Parameter[];
}

const frozen = new WeakMap<AnyModule, Frozen>();

/** Whether {@link freezeNorms} holds for a norm. */
export function isFrozen(norm: AnyModule): boolean {
  return frozen.has(norm);
}

/**
 * Freezes the norms of a module: until {@link unfreezeNorms}, those with running statistics normalise by them in `train()` as
 * well and do not move them, as if the layer were always in evaluation: its `training` stays false whatever `train()` says. Norms
 * whose statistics are a sample's own (layer, group, instance, root mean square, filter response) have only parameters to freeze.
 *
 * For fine-tuning with batches that are small or unlike those that the statistics are from. Frozen is a setting as the mode is: it
 * is not in the state dict, so freeze again after making and loading a module.
 *
 * @returns the dotted paths of the norms that are frozen now, in the module's order; one frozen before is among them
 * @throws InvalidArgumentError before anything changes, if a norm over the batch has no running statistics, or they are still
 * what they started from
 */
export function freezeNorms(module: AnyModule, options: FreezeNormsOptions = {}): string[] {
  const { affine = false } = options;
  const norms = normsOf(module, options.where).filter(([, norm]) => affine || isRunning(norm));
  for (const [path, norm] of norms) {
    if (isRunning(norm))
      checkStatistics(norm, path === '' ? norm.constructor.name : `${norm.constructor.name} ${path}`);
  }
  for (const [, norm] of norms) {
    const state = frozen.get(norm) ?? { mode: null, parameters: [] };
    frozen.set(norm, state);
    if (isRunning(norm) && state.mode === null) holdMode(norm, state);
    if (!affine) continue;
    const trained = norm.parameters().filter((parameter) => parameter.requiresGrad);
    for (const parameter of trained) {
      parameter.requiresGrad_(false);
      parameter.grad = null;
    }
    state.parameters.push(...trained);
  }
  return norms.map(([path]) => path);
}

/**
 * Ends {@link freezeNorms}: the mode becomes what `train()` or `eval()` last asked for, and the parameters that it stopped are
 * trained again.
 *
 * @returns the dotted paths of the norms that were frozen
 */
export function unfreezeNorms(module: AnyModule, options: Pick<FreezeNormsOptions, 'where'> = {}): string[] {
  const norms = normsOf(module, options.where).filter(([, norm]) => frozen.has(norm));
  for (const [, norm] of norms) {
    const { mode, parameters } = frozen.get(norm)!;
    frozen.delete(norm);
    if (mode !== null) {
      Object.defineProperty(norm, 'training', { configurable: true, enumerable: true, writable: true, value: mode });
    }
    for (const parameter of parameters) parameter.requiresGrad_();
  }
  return norms.map(([path]) => path);
}

function normsOf(module: AnyModule, where: FreezeNormsOptions['where'] = () => true): [string, AnyModule][] {
  return [...module.namedModules()].filter(([path, layer]) => isNorm(layer) && where(layer, path));
}

/** Whether a norm depends on the mode; an instance norm that tracks nothing does not. */
function isRunning(norm: AnyModule): norm is RunningNorm {
  if (norm instanceof InstanceNorm) return norm.trackRunningStats;
  return 'numBatchesTracked' in norm;
}

function checkStatistics(norm: RunningNorm, name: string): void {
  const { numBatchesTracked, runningMean, runningVar } = norm;
  if (numBatchesTracked === null) {
    throw new InvalidArgumentError(
      `${name} has no running statistics to be frozen with; make it with trackRunningStats: true, or leave it out by where`,
    );
  }
  const seen = scope(() => {
    if (numBatchesTracked.itemSync() > 0) return true;
    // A checkpoint of a library that does not count batches has statistics all the same.
    const moved = (statistic: Tensor | null | undefined, start: number): boolean =>
      statistic !== null && statistic !== undefined && Boolean(statistic.ne(start).any().itemSync());
    return moved(runningMean, 0) || moved(runningVar, 1);
  });
  if (!seen) {
    throw new InvalidArgumentError(
      `${name}: its running statistics have seen no batch; train it or load its state before it is frozen`,
    );
  }
}

/** Keeps `training` false. On the object itself, so that where nothing is frozen the mode is a plain property and costs nothing. */
function holdMode(norm: AnyModule, state: Frozen): void {
  state.mode = norm.training;
  Object.defineProperty(norm, 'training', {
    configurable: true,
    enumerable: true,
    get: () => false,
    set: (on: boolean) => (state.mode = on),
  });
}
