/** Norms by name: what encoders and heads take for the option that says how they normalise. */
import { InvalidArgumentError } from '../torch';
import { Identity, type Module } from '../nn';
import { BatchChannelNorm1d } from './batch-channel-norm1d';
import { BatchChannelNorm2d } from './batch-channel-norm2d';
import type { BatchChannelNormOptions } from './batch-channel-norm';
import type { BatchNormOptions } from './batch-norm';
import { BatchNorm1d } from './batch-norm1d';
import { BatchNorm2d } from './batch-norm2d';
import type { BatchRenormOptions } from './batch-renorm';
import { BatchRenorm1d } from './batch-renorm1d';
import { BatchRenorm2d } from './batch-renorm2d';
import { CrossIterationBatchNorm, type CrossIterationBatchNormOptions } from './cross-iteration-batch-norm';
import { CrossMiniBatchNorm, type CrossMiniBatchNormOptions } from './cross-mini-batch-norm';
import type { DomainBatchNormOptions } from './domain-batch-norm';
import { DomainBatchNorm1d } from './domain-batch-norm1d';
import { DomainBatchNorm2d } from './domain-batch-norm2d';
import { FilterResponseNorm, type FilterResponseNormOptions } from './filter-response-norm';
import type { GhostBatchNormOptions } from './ghost-batch-norm';
import { GhostBatchNorm1d } from './ghost-batch-norm1d';
import { GhostBatchNorm2d } from './ghost-batch-norm2d';
import { GroupNorm, type GroupNormOptions } from './group-norm';
import type { InstanceNormOptions } from './instance-norm';
import { InstanceNorm2d } from './instance-norm2d';
import { IterativeWhitening, type IterativeWhiteningOptions } from './iterative-whitening';
import { LayerNorm, type LayerNormOptions } from './layer-norm';
import { PowerNorm, type PowerNormOptions } from './power-norm';
import { RMSNorm, type RMSNormOptions } from './rms-norm';
import type { SplitBatchNormOptions } from './split-batch-norm';
import { SplitBatchNorm1d } from './split-batch-norm1d';
import { SplitBatchNorm2d } from './split-batch-norm2d';
import { SyncBatchNorm, type SyncBatchNormOptions } from './sync-batch-norm';
import { UncenteredBatchNorm1d } from './uncentered-batch-norm1d';
import { CholeskyWhitening, type WhiteningOptions } from './whitening';

/** Makes a normalisation layer for a number of features. */
export type NormFactory = (features: number) => Module;

/** A layer's options but the number of features, which the network knows. */
type Apart<Options> = Omit<Options, 'features' | 'normalizedShape' | 'channels'>;

/** The options of group norm and batch-channel norm with a default that fits every number of features. */
type WithGroups<Options> = Omit<Apart<Options>, 'groups'> & {
  /** Default: the largest power of two that divides the number of features, up to 32, with at least four channels a group; or 1. */
  groups?: number;
};

/** The norms that images and vectors share, by name, with their options. */
interface CommonNorms {
  /** {@link BatchNorm}. */
  batch: Apart<BatchNormOptions>;
  /** {@link SplitBatchNorm}. */
  split: Apart<SplitBatchNormOptions>;
  /** {@link GhostBatchNorm}. */
  ghost: Apart<GhostBatchNormOptions>;
  /** {@link BatchRenorm}. */
  renorm: Apart<BatchRenormOptions>;
  /** {@link SyncBatchNorm}. */
  sync: Apart<SyncBatchNormOptions>;
  /** {@link DomainBatchNorm}. */
  domain: Apart<DomainBatchNormOptions>;
  /** {@link CrossIterationBatchNorm}; without Taylor compensation, for which a layer has to know the one before it. */
  'cross-iteration': Omit<Apart<CrossIterationBatchNormOptions>, 'producer'>;
  /** {@link CrossMiniBatchNorm}. */
  'cross-mini-batch': Apart<CrossMiniBatchNormOptions>;
  /** {@link BatchChannelNorm}; its authors standardise the weights of convolutions as well. */
  'batch-channel': WithGroups<BatchChannelNormOptions>;
  /** {@link GroupNorm}. */
  group: WithGroups<GroupNormOptions>;
  /** {@link PowerNorm}. */
  power: Apart<PowerNormOptions>;
  /** {@link CholeskyWhitening}. */
  whitening: Apart<WhiteningOptions>;
  /** {@link IterativeWhitening}. */
  'iterative-whitening': Apart<IterativeWhiteningOptions>;
  /** No normalisation: `Identity`. */
  none: object;
}

/** The norms for images [N, C, H, W] by name, with their options. */
export interface Norms2d extends CommonNorms {
  /** {@link GroupNorm} with one group: over channels and positions, with γ and β a channel. */
  layer: Omit<Apart<GroupNormOptions>, 'groups'>;
  /** {@link InstanceNorm2d}, with γ and β unless told otherwise. */
  instance: Apart<InstanceNormOptions>;
  /** {@link FilterResponseNorm}, without its threshold unless told otherwise: networks have an activation of their own. */
  'filter-response': Apart<FilterResponseNormOptions>;
}

/** The norms for vectors [N, C] by name, with their options. */
export interface Norms1d extends CommonNorms {
  /** {@link LayerNorm}. */
  layer: Apart<LayerNormOptions>;
  /** {@link RMSNorm}. */
  rms: Apart<RMSNormOptions>;
  /** {@link UncenteredBatchNorm1d}. */
  uncentered: Apart<BatchNormOptions>;
}

/** Names of norms that need no option. */
type Alone<Norms> = { [Name in keyof Norms]: object extends Norms[Name] ? Name : never }[keyof Norms];

/** A norm by its name, by its name with options, or by a function that makes it. */
type Named<Norms> = Alone<Norms> | { [Name in keyof Norms]: { name: Name } & Norms[Name] }[keyof Norms] | NormFactory;

/** A norm for images: `'group'`, `{ name: 'split', splits: 4 }`, or `(features) => new MyNorm(features)`. */
export type Norm2d = Named<Norms2d>;

/** A norm for vectors: `'layer'`, `{ name: 'split', splits: 4 }`, or `(features) => new MyNorm(features)`. */
export type Norm1d = Named<Norms1d>;

type Makers<Norms> = { [Name in keyof Norms]: (options: Norms[Name] & { features: number }) => Module };

/** Adds the default of {@link WithGroups}. */
function grouped<Options extends { features: number; groups?: number }>(
  options: Options,
): Options & { groups: number } {
  const { features } = options;
  const fitting = [32, 16, 8, 4, 2].find((groups) => features % groups === 0 && features / groups >= 4);
  return { ...options, groups: options.groups ?? fitting ?? 1 };
}

const common = {
  sync: (options) => new SyncBatchNorm(options),
  'cross-iteration': (options) => new CrossIterationBatchNorm(options),
  'cross-mini-batch': (options) => new CrossMiniBatchNorm(options),
  group: (options) => new GroupNorm(grouped(options)),
  power: (options) => new PowerNorm(options),
  whitening: (options) => new CholeskyWhitening(options),
  'iterative-whitening': (options) => new IterativeWhitening(options),
  none: () => new Identity(),
} satisfies Partial<Makers<CommonNorms>>;

const makers2d: Makers<Norms2d> = {
  batch: (options) => new BatchNorm2d(options),
  split: (options) => new SplitBatchNorm2d(options),
  ghost: (options) => new GhostBatchNorm2d(options),
  renorm: (options) => new BatchRenorm2d(options),
  domain: (options) => new DomainBatchNorm2d(options),
  'batch-channel': (options) => new BatchChannelNorm2d(grouped(options)),
  layer: (options) => new GroupNorm({ ...options, groups: 1 }),
  instance: (options) => new InstanceNorm2d({ affine: true, ...options }),
  'filter-response': (options) => new FilterResponseNorm({ threshold: false, ...options }),
  ...common,
};

const makers1d: Makers<Norms1d> = {
  batch: (options) => new BatchNorm1d(options),
  split: (options) => new SplitBatchNorm1d(options),
  ghost: (options) => new GhostBatchNorm1d(options),
  renorm: (options) => new BatchRenorm1d(options),
  domain: (options) => new DomainBatchNorm1d(options),
  'batch-channel': (options) => new BatchChannelNorm1d(grouped(options)),
  layer: ({ features, ...options }) => new LayerNorm({ ...options, normalizedShape: features }),
  rms: ({ features, ...options }) => new RMSNorm({ ...options, normalizedShape: features }),
  uncentered: (options) => new UncenteredBatchNorm1d(options),
  ...common,
};

/** The names of {@link Norms2d}, for lists of choices. */
export const normNames2d = Object.keys(makers2d) as readonly (keyof Norms2d)[];

/** The names of {@link Norms1d}, for lists of choices. */
export const normNames1d = Object.keys(makers1d) as readonly (keyof Norms1d)[];

function factory(kind: string, makers: Readonly<Record<string, unknown>>, norm: string | object): NormFactory {
  if (typeof norm === 'function') return norm as NormFactory;
  const { name, ...options } = typeof norm === 'string' ? { name: norm } : (norm as { name: string });
  if (!Object.hasOwn(makers, name)) {
    throw new InvalidArgumentError(
      `no norm for ${kind} is called '${name}'; known: ${Object.keys(makers).join(', ')}; or give a function that makes one`,
    );
  }
  const make = makers[name] as (options: object) => Module;
  return (features) => make({ ...options, features });
}

/**
 * What makes a norm for images [N, C, H, W].
 *
 * ```ts
 * new ResidualEncoder({ norm: 'group' });
 * new ResidualEncoder({ norm: { name: 'ghost', ghostSize: 32 } });
 * const make = normFactory2d('batch');
 * ```
 *
 * @throws InvalidArgumentError listing the names, if none is called so
 */
export function normFactory2d(norm: Norm2d): NormFactory {
  return factory('images', makers2d, norm);
}

/**
 * What makes a norm for vectors [N, C].
 *
 * @throws InvalidArgumentError listing the names, if none is called so
 */
export function normFactory1d(norm: Norm1d): NormFactory {
  return factory('vectors', makers1d, norm);
}
