import { InvalidArgumentError, scope, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { countBatch } from './operators';

/** What batch normalisation is made from. */
export interface BatchNormOptions {
  /** The number of channels C. */
  features: number;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /**
   * The weight of the newest batch in the running statistics, or null for the plain mean over all batches so far, which costs
   * a wait for the device. Default 0.1.
   */
  momentum?: number | null;
  /** Whether to scale and shift by learnt values. Default true. */
  affine?: boolean;
  /** Whether `affine` has the shift β as well as the scale γ. Default true. */
  bias?: boolean;
  /** Whether to keep running statistics; without them, evaluation uses the batch's own. Default true. */
  trackRunningStats?: boolean;
  /**
   * `'raise'` refuses an input that holds NaN or infinity before anything changes, which costs a pass over the input and a wait
   * for the device; `'ignore'` (default) normalises it, and in training the running statistics take it in.
   */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Batch normalisation: y = (x − μ) / √(σ² + eps) · γ + β a channel, for x [N, C, …] in float32, float64, bfloat16 or float16. In
 * training μ and σ² are the batch's mean and biased variance, and the running mean and unbiased variance move towards them by
 * `momentum`; in evaluation they are the running ones. Options, their defaults and the state's names are PyTorch's. (TensorFlow's
 * momentum is 1 − ours.)
 *
 * The norm to start from where batches are large and their statistics give nothing away; `detectLeak` tells for momentum contrast.
 *
 * Ioffe and Szegedy 2015, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift.
 */
export abstract class BatchNorm extends Module {
  readonly features: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly trackRunningStats: boolean;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine` or `bias`. Starts at 0. */
  readonly bias: Parameter | null;
  /** [features], or null if not tracked. Starts at 0. */
  readonly runningMean: Tensor | null;
  /** [features], or null if not tracked. Starts at 1. */
  readonly runningVar: Tensor | null;
  /** How many batches the running statistics have seen: int64, no dimensions; or null if not tracked. */
  readonly numBatchesTracked: Tensor | null;

  constructor(options: BatchNormOptions) {
    super();
    const { features, eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    const { bias = true, nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.momentum = momentum === null ? null : numberWithin(0, 1, momentum, `${layer}: momentum`);
    this.trackRunningStats = trackRunningStats;
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones([features], { device, dtype })) : null;
    this.bias = affine && bias ? new Parameter(torch.zeros([features], { device, dtype })) : null;
    const buffer = (name: string, make: () => Tensor) => this.registerBuffer(name, trackRunningStats ? make() : null);
    this.runningMean = buffer('runningMean', () => torch.zeros([features], { device, dtype }));
    this.runningVar = buffer('runningVar', () => torch.ones([features], { device, dtype }));
    this.numBatchesTracked = buffer('numBatchesTracked', () => torch.zeros([], { device, dtype: 'int64' }));
  }

  /** @throws InvalidArgumentError naming the dimensions that the layer takes. */
  protected abstract checkDimensions(x: Tensor): void;

  /**
   * @throws InvalidArgumentError if the shape does not fit, a batch that is normalised by its own statistics has one value a
   * channel, or it holds NaN or infinity and that is to be refused
   */
  override forward(x: Tensor): Tensor {
    this.checkInput(x);
    if (this.training || this.runningMean === null) this.checkValues(x.shape, 'the batch');
    const momentum = this.countBatch();
    return this.normalize(x, this.runningMean, this.runningVar, momentum);
  }

  /** The checks that do not depend on the mode. */
  protected checkInput(x: Tensor): void {
    this.checkDimensions(x);
    if (x.shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected ${this.features} channels, found an input of shape [${x.shape.join(', ')}]`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, this.constructor.name);
  }

  /** A variance needs two values: refuses a batch, or a part of one, that has a single value a channel. */
  protected checkValues(shape: readonly number[], what: string): void {
    const values = shape.reduce((product, size, dimension) => (dimension === 1 ? product : product * size), 1);
    if (values < 2) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: ${this.training ? 'training' : 'evaluation without running statistics'} needs more than ` +
          `one value a channel, but ${what} has shape [${shape.join(', ')}]; use a larger batch` +
          (this.training ? ', or eval()' : ''),
      );
    }
  }

  /** Counts a training batch and gives its weight in the running statistics; 0 when there is nothing to update. */
  protected countBatch(): number {
    if (!this.training || this.numBatchesTracked === null) return 0;
    return countBatch(this.numBatchesTracked, this.momentum);
  }

  /** Normalises `x`, by its own statistics in training, moving the given running statistics. */
  protected normalize(x: Tensor, mean: Tensor | null, variance: Tensor | null, momentum: number): Tensor {
    const byBatch = this.training || mean === null;
    return torch.batchNorm(x, this.weight, this.bias, mean, variance, byBatch, momentum, this.eps, true);
  }
}

/**
 * Refuses NaN and infinity, at the cost of a pass over `x` and a wait for its device.
 *
 * @throws InvalidArgumentError naming the layer and what was found
 */
export function checkFinite(x: Tensor, layer: string): void {
  if (x.numel() === 0) return;
  // The extremes show NaN and infinity without a mask of the input's size.
  const [least, most] = scope(() =>
    x
      .detach()
      .aminmax()
      .map((extreme) => extreme.itemSync()),
  ) as [number, number];
  if (Number.isFinite(least) && Number.isFinite(most)) return;
  throw new InvalidArgumentError(
    `${layer}: the input of shape [${x.shape.join(', ')}] holds ${Number.isNaN(least) ? 'NaN' : 'infinity'}; look for where it ` +
      `arises in what comes before the layer, or set nonFinite: 'ignore'`,
  );
}
