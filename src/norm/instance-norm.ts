import { InvalidArgumentError, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';
import { countBatch } from './operators';

/** What instance normalisation is made from. */
export interface InstanceNormOptions {
  /** The number of channels C. */
  features: number;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /**
   * The weight of the newest batch in the running statistics, or null for the plain mean over all batches so far, which costs
   * a wait for the device. Default 0.1. (PyTorch's layer takes None for 0.)
   */
  momentum?: number | null;
  /** Whether to scale and shift by learnt values, one a channel. Default false, as in PyTorch. */
  affine?: boolean;
  /** Whether `affine` has the shift β as well as the scale γ. Default true. */
  bias?: boolean;
  /** Whether to keep running statistics and to normalise by them in evaluation. Default false, as in PyTorch. */
  trackRunningStats?: boolean;
  /** `'raise'` refuses NaN and infinity, which costs a pass over the input and a wait for the device. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Instance normalisation: y = (x − μ) / √(σ² + eps) · γ + β with mean μ and biased variance σ² over the positions of each channel
 * of each sample, for x [N, C, …] of any floating-point dtype. By default it keeps no state and is the same in training and in
 * evaluation. With `trackRunningStats` the running mean and unbiased variance move towards the means of the samples' statistics
 * in training and normalise in evaluation, as batch norm's do. Options, their defaults and the state's names are PyTorch's, whose
 * layer however leaves its count of batches at 0. An input without a batch dimension is refused.
 *
 * Takes a sample's contrast and style away; for style transfer, and where these must not tell images apart.
 *
 * Ulyanov, Vedaldi and Lempitsky 2016, Instance Normalization: The Missing Ingredient for Fast Stylization.
 */
export abstract class InstanceNorm extends Module {
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

  constructor(options: InstanceNormOptions) {
    super();
    const { features, eps = 1e-5, momentum = 0.1, affine = false, bias = true, trackRunningStats = false } = options;
    const { nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
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
   * @throws InvalidArgumentError if the shape does not fit, a channel that is normalised by its own statistics has one position,
   * or `x` holds NaN or infinity and that is to be refused
   */
  override forward(x: Tensor): Tensor {
    const { runningMean, runningVar, numBatchesTracked, weight, bias } = this;
    const layer = this.constructor.name;
    this.checkDimensions(x);
    const { shape } = x;
    if (shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${layer}: expected ${this.features} channels, found an input of shape [${shape.join(', ')}]`,
      );
    }
    const byInstance = this.training || runningMean === null;
    if (byInstance && shape.every((size, dimension) => dimension < 2 || size === 1)) {
      throw new InvalidArgumentError(
        `${layer}: an input of shape [${shape.join(', ')}] has one position a channel, which has no variance`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, layer);
    const momentum = this.training && numBatchesTracked !== null ? countBatch(numBatchesTracked, this.momentum) : 0;
    return torch.instanceNorm(x, weight, bias, runningMean, runningVar, byInstance, momentum, this.eps, true);
  }
}
