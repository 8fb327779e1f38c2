/** What whitening layers share, and whitening by Cholesky's decomposition. */
import {
  defineFunction,
  InvalidArgumentError,
  isGradEnabled,
  LinAlgError,
  noGrad,
  scope,
  torch,
  type DType,
  type Device,
  type Generator,
  type Tensor,
} from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { Module, Parameter } from '../nn';
import { integerFrom, numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';
import { countBatch } from './operators';

/** What a whitening layer is made from. */
export interface WhiteningOptions {
  /** The number of channels C. */
  features: number;
  /** Into how many groups of neighbouring channels C is split, each whitened by itself; must divide C. Default 1: all together. */
  groups?: number;
  /** Added to the covariance; what exactly it does, the layer says. Default 1e-5. */
  eps?: number;
  /** The weight of the newest batch in the running statistics, or null for the plain mean over all batches so far. Default 0.1. */
  momentum?: number | null;
  /** Whether to scale and shift each channel by learnt values afterwards. Default true. */
  affine?: boolean;
  /** Whether to keep running statistics; without them, evaluation uses the batch's own. Default true. */
  trackRunningStats?: boolean;
  /** As in `BatchNorm`: `'raise'` refuses NaN and infinity. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/** A way from covariances to matrices that whiten, for a stack of them, with its gradient. */
export interface Whitener {
  /** W [B, d, d] of Σ [B, d, d], and what {@link Whitener.gradient} needs besides W. */
  matrices(covariance: Tensor): { matrices: Tensor; saved: Tensor[] };
  /** The gradient by Σ, given that by W; made symmetric by the caller. */
  gradient(byMatrices: Tensor, matrices: Tensor, saved: readonly Tensor[]): Tensor;
  /** By how much less than the number of values the sum of products is divided: 1 or 0. */
  readonly correction: 0 | 1;
}

/** Where the numbers of a tensor [N, C, …] lie for a stack of matrix products. */
interface Layout {
  /** The input as [B, d, L], a view where possible. */
  open(x: Tensor): Tensor;
  /** The inverse of {@link Layout.open}. */
  close(planes: Tensor): Tensor;
  /** How many planes of the stack belong to one group: B = groups of planes · groups of channels. */
  readonly parts: number;
  readonly groups: number;
  /** Values a channel, over all planes. */
  readonly count: number;
}

/**
 * Each sample's channels are a column where channels lie last in memory (vectors, channels-last images), so all samples make one matrix
 * product; otherwise each sample is a matrix [C, L] of its own. Neither copies the input.
 */
function layoutOf(x: Tensor, groups: number): Layout {
  const [samples, channels] = [x.sizeOf(0), x.sizeOf(1)];
  const width = channels / groups;
  const places = x.shape.slice(2);
  const length = places.reduce((product, size) => product * size, 1);
  const channelsLast = length === 1 || (x.ndim === 4 && !x.isContiguous() && x.isContiguous('channels_last'));
  const last = [0, ...places.map((_, place) => place + 2), 1];
  const first = [0, x.ndim - 1, ...places.map((_, place) => place + 1)];
  if (channelsLast) {
    return {
      open: (tensor) =>
        tensor
          .permute(last)
          .reshape([samples * length, groups, width])
          .permute([1, 2, 0]),
      close: (planes) =>
        planes
          .permute([2, 0, 1])
          .reshape([samples, ...places, channels])
          .permute(first),
      parts: 1,
      groups,
      count: samples * length,
    };
  }
  return {
    open: (tensor) => tensor.reshape([samples * groups, width, length]),
    close: (planes) => planes.reshape([samples, channels, ...places]),
    parts: samples,
    groups,
    count: samples * length,
  };
}

/** A · B for stacks of matrices. A stack of one is quicker as a single product. */
export function product(a: Tensor, b: Tensor): Tensor {
  return a.sizeOf(0) === 1 ? a.squeeze(0).mm(b.squeeze(0)).unsqueeze(0) : torch.bmm(a, b);
}

/** beta · C + alpha · A · B for stacks of matrices. */
export function plusProduct(c: Tensor, a: Tensor, b: Tensor, scales: { beta?: number; alpha?: number } = {}): Tensor {
  return a.sizeOf(0) === 1
    ? torch.addmm(c.squeeze(0), a.squeeze(0), b.squeeze(0), scales).unsqueeze(0)
    : torch.baddbmm(c, a, b, scales);
}

/** A · B for every plane of the stack, with one A a group, plus a column a group. */
function apply(matrices: Tensor, planes: Tensor, offset: Tensor, layout: Layout): Tensor {
  if (layout.parts === 1) {
    // Transposed, so that the result lies in memory as the input does.
    return plusProduct(offset.mT(), planes.mT(), matrices.mT()).mT();
  }
  const spread = (tensor: Tensor): Tensor => tensor.repeat([layout.parts, 1, 1]);
  return plusProduct(spread(offset), spread(matrices), planes);
}

/** Σ over the planes of A · Bᵀ, [groups, d, d]. */
function products(a: Tensor, b: Tensor, layout: Layout): Tensor {
  if (layout.parts === 1) return product(a, b.mT());
  if (layout.groups === 1) {
    const width = a.sizeOf(1);
    return torch.addbmm(torch.zeros([width, width], { dtype: a.dtype, device: a.device }), a, b.mT()).unsqueeze(0);
  }
  return torch.bmm(a, b.mT()).unflatten(0, [layout.parts, layout.groups]).sum([0]);
}

/** Σ over places and planes, [groups, d, 1]. */
function sums(planes: Tensor, layout: Layout): Tensor {
  const rows = planes.sum([2], true);
  return layout.parts === 1 ? rows : rows.unflatten(0, [layout.parts, layout.groups]).sum([0]);
}

/** A number a channel [C] as [groups, d, 1]. */
function perChannel(channels: Tensor, layout: Layout): Tensor {
  return channels.reshape([layout.groups, -1, 1]);
}

interface Statistics {
  /** [groups, d, 1] */
  mean: Tensor;
  /** [groups, d, d] */
  covariance: Tensor;
  /** [groups, d, d] */
  matrices: Tensor;
}

/** Both passes of a whitening by the batch's own statistics: [N, C, …] to the same. */
function whiteningBy(whitener: Whitener): (
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  groups: number,
  /** Told the statistics, under no-grad. */
  observe: (statistics: Statistics) => void,
) => Tensor {
  type Args = [Tensor, Tensor | null, Tensor | null, number, (statistics: Statistics) => void];
  return defineFunction<Args, Tensor, { layout: Layout; affine: boolean }>({
    name: 'whitening',
    forward(context, x, weight, bias, groups, observe) {
      const layout = layoutOf(x, groups);
      const planes = layout.open(x);
      const mean = sums(planes, layout).div(layout.count);
      // Centred before anything is multiplied: the covariance of values far from zero would cancel.
      const centred = layout.parts === 1 ? planes.sub(mean) : planes.sub(mean.repeat([layout.parts, 1, 1]));
      const covariance = products(centred, centred, layout).div(layout.count - whitener.correction);
      const { matrices, saved } = whitener.matrices(covariance);
      observe({ mean, covariance, matrices });
      const scaled = weight === null ? matrices : matrices.mul(perChannel(weight, layout));
      const offset = bias === null ? torch.zerosLike(mean) : perChannel(bias.detach(), layout);
      context.state = { layout, affine: weight !== null };
      context.save(centred, matrices, ...(weight === null ? [] : [weight]), ...saved);
      return layout.close(apply(scaled, centred, offset, layout));
    },
    backward(context, gradient) {
      if (isGradEnabled()) {
        throw new InvalidArgumentError(
          'whitening by the batch has no gradients of gradients; leave createGraph out, or use eval()',
        );
      }
      const { layout, affine } = context.state;
      const [centred, matrices] = context.saved as [Tensor, Tensor];
      const weight = affine ? context.saved[2]! : null;
      const saved = context.saved.slice(affine ? 3 : 2);
      const planes = layout.open(gradient);
      const outer = products(planes, centred, layout);
      const total = sums(planes, layout);
      const scale = weight === null ? null : perChannel(weight, layout);
      let byInput: Tensor | null = null;
      if (context.needsGradient[0]) {
        const byMatrices = scale === null ? outer : outer.mul(scale);
        const byCovariance = whitener.gradient(byMatrices, matrices, saved);
        const twice = byCovariance.add(byCovariance.mT()).div(layout.count - whitener.correction);
        const back = (scale === null ? matrices : matrices.mul(scale)).mT();
        // The mean's own part: centred values have none, so only the gradient's mean is taken away.
        const shift = product(back, total).div(-layout.count);
        const direct = apply(back, planes, shift, layout);
        const through = layout.parts === 1 ? twice : twice.repeat([layout.parts, 1, 1]);
        // twice is symmetric, so its product can be added to either layout of the result.
        const whole =
          layout.parts === 1
            ? plusProduct(direct.mT(), centred.mT(), through).mT()
            : plusProduct(direct, through, centred);
        byInput = layout.close(whole);
      }
      const byWeight = context.needsGradient[1] ? outer.mul(matrices).sum([2]).reshape([-1]) : null;
      const byBias = context.needsGradient[2] ? total.reshape([-1]) : null;
      return [byInput, byWeight, byBias];
    },
  });
}

/**
 * The base of layers that whiten: y = W (x − μ) · γ + β a group of channels, where W makes the group's covariance the identity, for x
 * [N, C, …] of any number of further dimensions; every sample and place counts as one value. Batch norm does the same with a diagonal W.
 *
 * In training μ and W are the batch's own, and gradients flow through both. The running mean and the running matrix (the subclass says
 * which) move towards the batch's by `momentum`, and are what evaluation uses. In training there are no gradients of gradients. float32 and float64 are computed as they are, other types
 * in float32; so is everything under autocast.
 */
export abstract class Whitening extends Module {
  readonly features: number;
  readonly groups: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly trackRunningStats: boolean;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine`. Starts at 0. */
  readonly bias: Parameter | null;
  /** [features], or null if not tracked. Starts at 0. */
  readonly runningMean: Tensor | null;
  /** How many batches the running statistics have seen: int64, no dimensions; or null if not tracked. */
  readonly numBatchesTracked: Tensor | null;
  readonly #whitener: Whitener;
  readonly #whiten: ReturnType<typeof whiteningBy>;

  protected constructor(options: WhiteningOptions, makeWhitener: (eps: number) => Whitener) {
    super();
    const { features, groups = 1, eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    const { nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.groups = positiveInteger(groups, `${layer}: groups`);
    if (features % groups !== 0) {
      throw new InvalidArgumentError(`${layer}: groups (${groups}) must divide features (${features})`);
    }
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.momentum = momentum === null ? null : numberWithin(0, 1, momentum, `${layer}: momentum`);
    this.trackRunningStats = trackRunningStats;
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones([features], { device, dtype })) : null;
    this.bias = affine ? new Parameter(torch.zeros([features], { device, dtype })) : null;
    const buffer = (name: string, make: () => Tensor) => this.registerBuffer(name, trackRunningStats ? make() : null);
    this.runningMean = buffer('runningMean', () => torch.zeros([features], { device, dtype }));
    this.numBatchesTracked = buffer('numBatchesTracked', () => torch.zeros([], { device, dtype: 'int64' }));
    this.#whitener = makeWhitener(this.eps);
    this.#whiten = whiteningBy(this.#whitener);
  }

  /** The identity a group: where running matrices start. */
  protected identities(options: WhiteningOptions): Tensor {
    const width = this.features / this.groups;
    const { device = 'cpu', dtype = 'float32' } = options;
    return torch.eye(width, { device, dtype }).repeat([this.groups, 1, 1]);
  }

  /** How many values a channel a batch needs at least. */
  protected abstract leastValues(): number;

  /** Which of a batch's statistics the running matrix follows, and the running matrix itself. */
  protected abstract followed(statistics: {
    covariance: Tensor;
    matrices: Tensor;
  }): readonly [from: Tensor, to: Tensor];

  /** Sets the running matrix from sums of products of differences from the mean, over so many values. @internal */
  adoptCovariance(products: Tensor, count: number): void {
    const { correction } = this.#whitener;
    const covariance = products.div(Math.max(count - correction, 1));
    const [from, to] = this.followed({ covariance, matrices: this.#whitener.matrices(covariance).matrices });
    to.copy_(from);
  }

  /** W for evaluation, float32 or float64. */
  protected abstract runningMatrices(whitener: Whitener, dtype: DType): Tensor;

  /**
   * @param x [N, C, …]
   * @throws InvalidArgumentError if the shape does not fit or a batch has too few values, before anything changes
   * @throws LinAlgError if a covariance has no Cholesky decomposition
   */
  override forward(x: Tensor): Tensor {
    const layer = this.constructor.name;
    if (x.ndim < 2 || x.shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${layer}: expected ${this.features} channels in the second dimension, found an input of shape [${x.shape.join(', ')}]`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, layer);
    return withoutAutocast(x, () =>
      scope(() => {
        const wide = x.dtype === 'float64' || x.dtype === 'float32' ? x : x.to('float32');
        const [weight, bias] = [this.weight, this.bias].map((channels) => channels?.to({ dtype: wide.dtype }) ?? null);
        const y =
          this.training || this.runningMean === null
            ? this.#byBatch(wide, weight!, bias!)
            : this.#byRunning(wide, weight!, bias!);
        return y.to({ dtype: x.dtype });
      }),
    );
  }

  #byBatch(x: Tensor, weight: Tensor | null, bias: Tensor | null): Tensor {
    const values = x.numel() / this.features;
    const least = this.leastValues();
    if (values < least) {
      const width = this.features / this.groups;
      throw new InvalidArgumentError(
        `${this.constructor.name}: a batch of shape [${x.shape.join(', ')}] has ${values} values a channel, and whitening ${width} ` +
          `channels together takes at least ${least}; use a larger batch or more groups`,
      );
    }
    return this.#whiten(x, weight, bias, this.groups, ({ mean, covariance, matrices }) => {
      const { runningMean, numBatchesTracked } = this;
      if (!this.training || runningMean === null || numBatchesTracked === null) return;
      const momentum = countBatch(numBatchesTracked, this.momentum);
      const [from, to] = this.followed({ covariance, matrices });
      runningMean.lerp_(mean.reshape([-1]).to({ dtype: runningMean.dtype }), momentum);
      to.lerp_(from.to({ dtype: to.dtype }), momentum);
    });
  }

  #byRunning(x: Tensor, weight: Tensor | null, bias: Tensor | null): Tensor {
    const layout = layoutOf(x, this.groups);
    const [mean, matrices] = noGrad(() => {
      const channels = this.runningMean!.to({ dtype: x.dtype });
      return [
        channels.reshape([1, -1, ...x.shape.slice(2).map(() => 1)]),
        this.runningMatrices(this.#whitener, x.dtype),
      ];
    }) as [Tensor, Tensor];
    const scaled = weight === null ? matrices : matrices.mul(perChannel(weight, layout));
    const offset =
      bias === null
        ? torch.zeros([this.groups, this.features / this.groups, 1], { dtype: x.dtype, device: x.device })
        : perChannel(bias, layout);
    return layout.close(apply(scaled, layout.open(x.sub(mean)), offset, layout));
  }
}

/** L⁻¹ of (1 − eps) Σ + eps · I = L Lᵀ. */
export function choleskyWhitener(eps: number, what: string): Whitener {
  return {
    correction: 1,
    matrices(covariance) {
      const identity = torch.eye(covariance.sizeOf(-1), { dtype: covariance.dtype, device: covariance.device });
      const shrunk = eps === 0 ? covariance : covariance.mul(1 - eps).add(identity, { alpha: eps });
      const factor = cholesky(shrunk, what);
      return { matrices: torch.linalgSolveTriangular(factor, identity.expandAs(factor), { upper: false }), saved: [] };
    },
    gradient(byMatrices, matrices) {
      // With P = (∂/∂W) Wᵀ, the gradient by L Lᵀ is −½ Wᵀ (the lower half of P, mirrored) W: L never appears.
      const lower = product(byMatrices, matrices.mT()).tril();
      const mirrored = lower.add(lower.tril(-1).mT());
      return product(matrices.mT(), product(mirrored, matrices)).mul(-0.5 * (1 - eps));
    },
  };
}

function cholesky(covariance: Tensor, what: string): Tensor {
  try {
    return torch.linalgCholesky(covariance);
  } catch (error) {
    if (!(error instanceof LinAlgError)) throw error;
    throw new LinAlgError(
      `${what}: the covariance has no Cholesky decomposition: channels are constant, copies of each other, or hold NaN; use a ` +
        'larger eps, more groups or a larger batch',
      { cause: error },
    );
  }
}

/**
 * Whitening by Cholesky's decomposition: W = L⁻¹ with L Lᵀ = (1 − eps) Σ + eps · I, Σ the covariance over the batch divided by the number
 * of values less one, so that eps is a shrinkage towards the identity. W is lower triangular: the first channel is only standardised, and
 * each further one rid of what those before it tell of it.
 *
 * State: `runningMean` [C], `runningCovariance` [groups, C / groups, C / groups] (not shrunk) and `numBatchesTracked`. In training a batch
 * needs more values a channel than there are channels in a group. Defaults: eps is 1e-5 and momentum 0.1 here; the code of W-MSE has 0 and
 * 0.01.
 *
 * For embeddings whose dimensions shall be decorrelated, as in W-MSE ({@link whitenSubBatches} has its sub-batches); inside networks
 * {@link IterativeWhitening} turns the channels less.
 *
 * Siarohin, Sangineto and Sebe 2019, Whitening and Coloring Batch Transform for GANs; Ermolov et al. 2021, Whitening for Self-Supervised
 * Representation Learning.
 */
export class CholeskyWhitening extends Whitening {
  /** [groups, features / groups, features / groups], or null if not tracked. Starts at the identity. */
  readonly runningCovariance: Tensor | null;

  constructor(options: WhiteningOptions) {
    super(options, (eps) =>
      choleskyWhitener(numberWithin(0, 1, eps, 'CholeskyWhitening: eps, a shrinkage,'), 'CholeskyWhitening'),
    );
    this.runningCovariance = this.registerBuffer(
      'runningCovariance',
      this.trackRunningStats ? this.identities(options) : null,
    );
  }

  protected override leastValues(): number {
    return this.features / this.groups + 1;
  }

  protected override followed({ covariance }: { covariance: Tensor }): readonly [Tensor, Tensor] {
    return [covariance, this.runningCovariance!];
  }

  protected override runningMatrices(whitener: Whitener, dtype: DType): Tensor {
    return whitener.matrices(this.runningCovariance!.to({ dtype })).matrices;
  }
}

/** How {@link whitenSubBatches} draws and whitens. */
export interface SubBatchOptions {
  /** Samples a sub-batch; must divide N and be larger than D. W-MSE takes twice D. */
  size: number;
  /** How often the batch is cut anew. Default 1. */
  repeats?: number;
  /** The shrinkage, as in {@link CholeskyWhitening}. Default 0, as in W-MSE. */
  eps?: number;
  /** Where the cuts come from (on the CPU); default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * Whitens views in random sub-batches (W-MSE): the samples are put in a random order, cut into N / size sub-batches, and each view of each
 * sub-batch is whitened by its own mean and covariance as in {@link CholeskyWhitening}; all of it again with another order `repeats` times.
 * All views share the order, so that positive pairs meet under the same company, and whitened rows come back in the order given. The
 * loss is the mean over repeats of whatever pulls the views together.
 *
 * All sub-batches of all views are one stack of matrix products, one Cholesky decomposition and one triangular solve a repeat.
 *
 * @param views each [N, D], float32 or float64 (other types are whitened in float32)
 * @returns for each repeat, the views: [repeats][views] of [N, D]
 * @throws InvalidArgumentError if the sub-batches do not divide the batch, have no more samples than dimensions, or views differ in shape
 *
 * Ermolov et al. 2021, Whitening for Self-Supervised Representation Learning.
 */
export function whitenSubBatches(views: readonly Tensor[], options: SubBatchOptions): Tensor[][] {
  const what = 'whitenSubBatches';
  const { size, repeats = 1, eps = 0, generator } = options;
  positiveInteger(repeats, `${what}: repeats`);
  numberWithin(0, 1, eps, `${what}: eps`);
  const [first] = views;
  if (first?.ndim !== 2 || views.some((view) => view.shape.join() !== first.shape.join())) {
    throw new InvalidArgumentError(
      `${what}: expected one or more views [N, D] of one shape, found ${views.map((view) => `[${view.shape.join(', ')}]`).join(', ') || 'none'}`,
    );
  }
  const [samples, dimensions] = first.shape as [number, number];
  integerFrom(1, size, `${what}: size`);
  if (size <= dimensions) {
    throw new InvalidArgumentError(
      `${what}: a sub-batch of ${size} samples cannot be whitened in ${dimensions} dimensions: their covariance has no inverse; use ` +
        `sub-batches of at least ${dimensions + 1} (W-MSE: ${2 * dimensions}), or smaller embeddings`,
    );
  }
  if (samples % size !== 0) {
    throw new InvalidArgumentError(
      `${what}: a batch of ${samples} samples does not divide into sub-batches of ${size}`,
    );
  }
  const whiten = whiteningBy(choleskyWhitener(eps, what));
  return withoutAutocast(first, () => {
    const all = torch.stack(views.map((view) => (view.dtype === 'float64' ? view : view.to('float32'))));
    const cuts = samples / size;
    return Array.from({ length: repeats }, () => {
      const order = torch.randperm(samples, { generator: generator ?? null }).to({ device: first.device });
      // Each sub-batch of each view is a group of channels of its own: [size, views · cuts · D].
      const columns = all
        .indexSelect(1, order)
        .reshape([views.length * cuts, size, dimensions])
        .transpose(0, 1)
        .reshape([size, views.length * cuts * dimensions]);
      const whitened = whiten(columns, null, null, views.length * cuts, () => undefined)
        .reshape([size, views.length * cuts, dimensions])
        .transpose(0, 1)
        .reshape([views.length, samples, dimensions])
        .indexSelect(1, order.argsort());
      return whitened.unbind().map((view) => view.to({ dtype: first.dtype }));
    });
  });
}
