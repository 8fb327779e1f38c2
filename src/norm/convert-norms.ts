import { InvalidArgumentError, type DType, type Device, type Tensor } from '../torch';
import { Identity, type AnyModule, type Parameter } from '../nn';
import { BatchNorm1d } from './batch-norm1d';
import { BatchNorm2d } from './batch-norm2d';
import { BatchNorm3d } from './batch-norm3d';
import { DomainBatchNorm, type DomainBatchNormOptions } from './domain-batch-norm';
import { DomainBatchNorm1d } from './domain-batch-norm1d';
import { DomainBatchNorm2d } from './domain-batch-norm2d';
import { DomainBatchNorm3d } from './domain-batch-norm3d';
import type { GhostBatchNormOptions } from './ghost-batch-norm';
import { GhostBatchNorm1d } from './ghost-batch-norm1d';
import { GhostBatchNorm2d } from './ghost-batch-norm2d';
import { GhostBatchNorm3d } from './ghost-batch-norm3d';
import { GroupNorm } from './group-norm';
import { InstanceNorm1d } from './instance-norm1d';
import { InstanceNorm2d } from './instance-norm2d';
import { InstanceNorm3d } from './instance-norm3d';
import { isNorm } from './norm-only';
import { replaceModules } from './replace-modules';
import type { SplitBatchNormOptions } from './split-batch-norm';
import { SplitBatchNorm1d } from './split-batch-norm1d';
import { SplitBatchNorm2d } from './split-batch-norm2d';
import { SplitBatchNorm3d } from './split-batch-norm3d';

/** Makes what takes a norm's place, from the norm and its dotted path. The norm itself means that it stays. */
export type NormConversion = (old: AnyModule, path: string) => AnyModule;

/** The options that norms share, as far as a norm has them. */
interface CommonOptions {
  features: number;
  eps?: number;
  momentum?: number | null;
  affine: boolean;
  bias: boolean;
  trackRunningStats?: boolean;
  device?: Device;
  dtype?: DType;
}

/** A class of norms, made from an object of options. */
type NormClass<Options> = new (options: Options) => AnyModule;

/** One class a number of dimensions. */
type NormFamily<Options> = Partial<Record<'1d' | '2d' | '3d', NormClass<Options>>>;

/** What a norm's common options are read from. */
interface NormLike {
  features?: unknown;
  eps?: unknown;
  momentum?: unknown;
  trackRunningStats?: unknown;
  weight?: Parameter | null;
  bias?: Parameter | null;
  runningMean?: Tensor | null;
}

/** The norm whose numbers stand for the whole: of several domains, the one in use. */
function partInUse(norm: AnyModule): AnyModule {
  return norm instanceof DomainBatchNorm ? norm.domains.at(norm.domain) : norm;
}

function optionsOf(norm: AnyModule, path: string): CommonOptions {
  const { features, eps, momentum, trackRunningStats, weight, bias, runningMean } = partInUse(norm) as NormLike;
  if (typeof features !== 'number') {
    throw new InvalidArgumentError(
      `convertNorms: '${path}', a ${norm.constructor.name}, has no property features to make another norm from; give a function ` +
        'that makes it, or leave this one out by where',
    );
  }
  const tensor = weight ?? runningMean;
  return {
    features,
    ...(typeof eps === 'number' ? { eps } : {}),
    ...(typeof momentum === 'number' || momentum === null ? { momentum } : {}),
    ...(typeof trackRunningStats === 'boolean' ? { trackRunningStats } : {}),
    affine: weight !== null && weight !== undefined,
    bias: bias !== null && bias !== undefined,
    ...(tensor === null || tensor === undefined ? {} : { device: tensor.device, dtype: tensor.dtype }),
  };
}

function dimensionsOf(norm: AnyModule): '1d' | '2d' | '3d' | undefined {
  let made = Object.getPrototypeOf(norm) as object | null;
  while (made !== null) {
    const dimensions = /[123]d$/.exec(made.constructor.name)?.[0];
    if (dimensions !== undefined) return dimensions as '1d' | '2d' | '3d';
    made = Object.getPrototypeOf(made) as object | null;
  }
  return undefined;
}

/**
 * A conversion into norms of a class, or of a family with a class for each number of dimensions, which is read off the end of the old
 * class's name. The options of the old norm (`features`, `eps`, `momentum`, `affine`, `bias`, `trackRunningStats`), its device and dtype
 * go to the new one.
 *
 * ```ts
 * convertNorms(encoder, toNorm(FilterResponseNorm, { threshold: false }));
 * convertNorms(encoder, toNorm({ '2d': BatchNorm2d }, { momentum: 0.01 }));
 * ```
 *
 * @param options what the new class needs besides, or shall have in place of the old norm's
 */
export function toNorm<Options extends object>(
  made: NormClass<Options & { features: number }> | NormFamily<Options & { features: number }>,
  options?: Partial<Options>,
): NormConversion {
  return (old, path) => {
    const common = optionsOf(old, path);
    const build = (New: NormClass<Options & { features: number }>): AnyModule =>
      new New({ ...common, ...options } as unknown as Options & { features: number });
    if (typeof made === 'function') return build(made);
    const dimensions = dimensionsOf(old);
    const New = dimensions === undefined ? undefined : made[dimensions];
    if (New === undefined) {
      const known = Object.values(made).map((kind) => kind.name);
      throw new InvalidArgumentError(
        `convertNorms: '${path}' is a ${old.constructor.name}, from which it does not follow which of ${known.join(', ')} is to take ` +
          'its place; give toNorm that class itself, with a where that leaves out the others',
      );
    }
    return build(New);
  };
}

/** A conversion into plain batch norm. */
export function toBatchNorm(): NormConversion {
  return toNorm({ '1d': BatchNorm1d, '2d': BatchNorm2d, '3d': BatchNorm3d });
}

/** A conversion into split batch norm. */
export function toSplitBatchNorm(
  options: Pick<SplitBatchNormOptions, 'splits'> & Partial<SplitBatchNormOptions>,
): NormConversion {
  return toNorm<SplitBatchNormOptions>(
    { '1d': SplitBatchNorm1d, '2d': SplitBatchNorm2d, '3d': SplitBatchNorm3d },
    options,
  );
}

/** A conversion into ghost batch norm. */
export function toGhostBatchNorm(
  options: Pick<GhostBatchNormOptions, 'ghostSize'> & Partial<GhostBatchNormOptions>,
): NormConversion {
  return toNorm<GhostBatchNormOptions>(
    { '1d': GhostBatchNorm1d, '2d': GhostBatchNorm2d, '3d': GhostBatchNorm3d },
    options,
  );
}

/** A conversion into domain-specific batch norm, each of whose domains starts from the old norm's state. */
export function toDomainBatchNorm(options: Partial<DomainBatchNormOptions> = {}): NormConversion {
  return toNorm<DomainBatchNormOptions>(
    { '1d': DomainBatchNorm1d, '2d': DomainBatchNorm2d, '3d': DomainBatchNorm3d },
    options,
  );
}

/** A conversion into group norm, of so many groups, or as many as a function of the channels says. */
export function toGroupNorm(groups: number | ((features: number) => number)): NormConversion {
  return (old, path) => {
    const common = optionsOf(old, path);
    return new GroupNorm({ ...common, groups: typeof groups === 'number' ? groups : groups(common.features) });
  };
}

/** A conversion into instance norm without running statistics. */
export function toInstanceNorm(): NormConversion {
  const family = { '1d': InstanceNorm1d, '2d': InstanceNorm2d, '3d': InstanceNorm3d };
  return toNorm(family, { trackRunningStats: false });
}

/** A conversion into nothing at all: norms become `Identity`. */
export function toIdentity(): NormConversion {
  return () => new Identity();
}

/**
 * Puts norms of another kind in the place of a model's, keeping what both kinds have: every parameter and buffer of the same name and
 * shape (γ, β, running mean and variance, the count of batches), whether they are trained, and the mode.
 *
 * ```ts
 * convertNorms(encoder, toSplitBatchNorm({ splits: 8 }));
 * convertNorms(encoder, toGroupNorm(8), { where: (norm, path) => path.startsWith('stages.') });
 * convertNorms(encoder, (old) => new MyNorm((old as BatchNorm2d).features));
 * ```
 *
 * Norms are found by {@link isNorm}, a norm inside another (the domains of domain-specific batch norm) being part of it; they are replaced
 * by {@link Module.replaceChild}. A norm that stands in several places is converted once. Make optimisers, moving averages
 * and momentum pairs afterwards: parameters are new objects.
 *
 * @param to makes the new norm; several are ready: {@link toNorm}, {@link toBatchNorm} and others
 * @param options `where`: which norms, by module and dotted path. Default: all.
 * @returns the model: another object only if it is itself a norm
 * @throws InvalidArgumentError if no norm fits, one cannot be made, or one is held where it cannot be replaced, before anything changes
 */
export function convertNorms<M extends AnyModule>(
  model: M,
  to: NormConversion,
  options: { where?: (norm: AnyModule, path: string) => boolean } = {},
): M {
  const { where = () => true } = options;
  const replacements = new Map<AnyModule, AnyModule>();
  let within: string | null = null;
  for (const [path, module] of model.namedModules()) {
    if (within !== null && (within === '' || path.startsWith(`${within}.`))) continue;
    if (!isNorm(module)) continue;
    within = path;
    if (!where(module, path)) continue;
    const made = to(module, path);
    if (made === module) continue;
    carryOver(module, made);
    replacements.set(module, made);
  }
  if (replacements.size === 0) {
    throw new InvalidArgumentError(
      `convertNorms: ${model.constructor.name} has no norm to convert, or none that where lets through`,
    );
  }
  return replaceModules(model, replacements);
}

/** Copies what both have under one name and in one shape. */
function carryOver(from: AnyModule, to: AnyModule): void {
  const source = partInUse(from);
  const given = source.stateDict();
  const trained = source.namedParameters();
  for (const target of to instanceof DomainBatchNorm ? to.domains : [to]) {
    const common = [...target.stateDict()].filter(
      ([name, tensor]) => given.get(name)?.shape.join() === tensor.shape.join(),
    );
    target.loadStateDict(new Map(common.map(([name]) => [name, given.get(name)!])), { strict: false });
    for (const [name, parameter] of target.namedParameters()) {
      const old = trained.get(name);
      if (old !== undefined) parameter.requiresGrad_(old.requiresGrad);
    }
  }
  to.train(from.training);
}
