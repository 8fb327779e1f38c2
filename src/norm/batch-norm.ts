import { InvalidArgumentError, noGrad, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';

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
  /** Whether to keep running statistics; without them, evaluation uses the batch's own. Default true. */
  trackRunningStats?: boolean;
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Batch normalisation (Ioffe and Szegedy 2015): y = (x − μ) / √(σ² + eps) · γ + β a channel. In training μ and σ² are the
 * batch's mean and biased variance, and the running mean and unbiased variance move towards them; in evaluation they are the
 * running ones. Options, state names and errors are PyTorch's.
 */
export abstract class BatchNorm extends Module {
  readonly features: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly trackRunningStats: boolean;
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine`. Starts at 0. */
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
    const { device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.momentum = momentum === null ? null : numberWithin(0, 1, momentum, `${layer}: momentum`);
    this.trackRunningStats = trackRunningStats;
    this.weight = affine ? new Parameter(torch.ones([features], { device, dtype })) : null;
    this.bias = affine ? new Parameter(torch.zeros([features], { device, dtype })) : null;
    const buffer = (name: string, make: () => Tensor) => this.registerBuffer(name, trackRunningStats ? make() : null);
    this.runningMean = buffer('runningMean', () => torch.zeros([features], { device, dtype }));
    this.runningVar = buffer('runningVar', () => torch.ones([features], { device, dtype }));
    this.numBatchesTracked = buffer('numBatchesTracked', () => torch.zeros([], { device, dtype: 'int64' }));
  }

  /** @throws InvalidArgumentError naming the dimensions that the layer takes. */
  protected abstract checkDimensions(x: Tensor): void;

  /** @throws InvalidArgumentError if the shape does not fit, or a training batch has one value a channel. */
  override forward(x: Tensor): Tensor {
    this.checkInput(x);
    if (this.training) this.checkValues(x.shape, 'the batch');
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
  }

  /** A variance needs two values: refuses a batch, or a part of one, that has a single value a channel. */
  protected checkValues(shape: readonly number[], what: string): void {
    const values = shape.reduce((product, size, dimension) => (dimension === 1 ? product : product * size), 1);
    if (values < 2) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: training needs more than one value a channel, but ${what} has shape ` +
          `[${shape.join(', ')}]; use a larger batch, or eval()`,
      );
    }
  }

  /** Counts a training batch and gives its weight in the running statistics; 0 when there is nothing to update. */
  protected countBatch(): number {
    if (!this.training || this.numBatchesTracked === null) return 0;
    const batches = this.numBatchesTracked;
    noGrad(() => batches.add_(1).dispose());
    return this.momentum ?? 1 / batches.itemSync();
  }

  /** Normalises `x`, by its own statistics in training, moving the given running statistics. */
  protected normalize(x: Tensor, mean: Tensor | null, variance: Tensor | null, momentum: number): Tensor {
    const byBatch = this.training || mean === null;
    return torch.batchNorm(x, this.weight, this.bias, mean, variance, byBatch, momentum, this.eps, true);
  }
}
