import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite, type BatchNormOptions } from './batch-norm';
import { batchChannelNorm, countBatch } from './operators';

/** What {@link BatchChannelNorm} is made from. Running statistics are always kept. */
export interface BatchChannelNormOptions extends Omit<BatchNormOptions, 'bias' | 'trackRunningStats'> {
  /** Into how many groups the channels are split for the second normalisation; it divides `features`. Default 32, the authors' choice. */
  groups?: number;
  /**
   * Whether training too normalises by the running estimates, for batches of a few samples. Default true; the authors' code has
   * false, with which the first normalisation is plain batch normalisation.
   */
  estimate?: boolean;
}

/**
 * Batch-channel normalisation: batch normalisation, by statistics estimated over many batches, and then group normalisation.
 * For x [N, C, …] in float32, float64, bfloat16 or float16, and r the `momentum`, training with `estimate` does a channel
 *
 *     m = mean(x),   v = mean((x − μ̂)²)                      μ̂ being the estimate so far
 *     μ̂ ← μ̂ + r (m − μ̂),   σ̂² ← σ̂² + r (v − σ̂²)             without gradients
 *     y = γ (x − μ̂) / √(σ̂² + eps) + β
 *     z = γ' (y − mean_g(y)) / √(var_g(y) + eps) + β'         over the group g of channels of one sample
 *
 * so that a batch may be a single sample, and the estimates are constants to the gradient. Evaluation leaves the estimates as they
 * are. Without `estimate`, training takes m and the biased variance of the batch in place of μ̂ and σ̂², with gradients through
 * them, and evaluation the running ones, as batch normalisation does.
 *
 * State: `weight` γ, `bias` β, `runningMean` μ̂, `runningVar` σ̂² and `numBatchesTracked` as batch normalisation has them, so its
 * checkpoints fit for these; `channelWeight` γ' and `channelBias` β', [groups], as in the authors' code. How they set r over
 * training is not in what they published; 0.1 here is batch normalisation's.
 *
 * Use it with {@link WeightStandardizedConv2d} where memory allows a few samples a batch. It is not batch normalisation in
 * evaluation and cannot be folded into a convolution. Training on maps on the CPU has no second derivative, for which it raises an
 * error.
 *
 * Qiao, Wang, Liu, Shen and Yuille 2019, Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
 */
export abstract class BatchChannelNorm extends Module {
  readonly features: number;
  readonly groups: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly estimate: boolean;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine`. Starts at 0. */
  readonly bias: Parameter | null;
  /** γ', [groups], or null without `affine`. Starts at 1. */
  readonly channelWeight: Parameter | null;
  /** β', [groups], or null without `affine`. Starts at 0. */
  readonly channelBias: Parameter | null;
  /** μ̂, [features]. Starts at 0. */
  readonly runningMean: Tensor;
  /** σ̂², [features]. Starts at 1. */
  readonly runningVar: Tensor;
  /** How many training batches there were: int64, no dimensions. */
  readonly numBatchesTracked: Tensor;

  /** @throws InvalidArgumentError if `groups` does not divide `features`, or an option makes no sense */
  constructor(options: BatchChannelNormOptions) {
    super();
    const { features, groups = 32, eps = 1e-5, momentum = 0.1, affine = true, estimate = true } = options;
    const { nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.groups = positiveInteger(groups, `${layer}: groups`);
    if (features % groups !== 0) {
      throw new InvalidArgumentError(
        `${layer}: groups (${groups}) must divide features (${features}); set groups to a divisor of the number of channels`,
      );
    }
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.momentum = momentum === null ? null : numberWithin(0, 1, momentum, `${layer}: momentum`);
    this.estimate = estimate;
    this.nonFinite = nonFinite;
    const parameter = (make: typeof torch.ones, size: number) =>
      affine ? new Parameter(make([size], { device, dtype })) : null;
    this.weight = parameter(torch.ones, features);
    this.bias = parameter(torch.zeros, features);
    this.channelWeight = parameter(torch.ones, groups);
    this.channelBias = parameter(torch.zeros, groups);
    this.runningMean = this.registerBuffer('runningMean', torch.zeros([features], { device, dtype }));
    this.runningVar = this.registerBuffer('runningVar', torch.ones([features], { device, dtype }));
    this.numBatchesTracked = this.registerBuffer('numBatchesTracked', torch.zeros([], { device, dtype: 'int64' }));
  }

  /** @throws InvalidArgumentError naming the dimensions that the layer takes. */
  protected abstract checkDimensions(x: Tensor): void;

  /**
   * @throws InvalidArgumentError if the shape does not fit, a group has one value a sample, training without `estimate` has one
   * value a channel, training has no sample, or the input holds NaN or infinity and that is to be refused
   */
  override forward(x: Tensor): Tensor {
    this.#check(x);
    const rate = this.training ? countBatch(this.numBatchesTracked, this.momentum) : 0;
    // The operator is for maps on the CPU, where LibTorch's two norms go over the activations more often than they have to.
    const isForOperator = x.ndim > 2 && x.device === 'cpu' && x.dtype !== 'float16';
    if (this.training && isForOperator) return this.#normalizeInOne(x, rate);
    return scope(() => {
      const y = this.#normalizeBatch(x, rate);
      const [weight, bias] = [this.#byChannel(this.channelWeight), this.#byChannel(this.channelBias)];
      return torch.groupNorm(y, this.groups, weight, bias, this.eps);
    });
  }

  #check(x: Tensor): void {
    this.checkDimensions(x);
    const layer = this.constructor.name;
    const [samples = 0, channels, ...places] = x.shape;
    const shape = `[${x.shape.join(', ')}]`;
    if (channels !== this.features) {
      throw new InvalidArgumentError(`${layer}: expected ${this.features} channels, found an input of shape ${shape}`);
    }
    const area = places.reduce((product, size) => product * size, 1);
    if ((this.features / this.groups) * area < 2) {
      throw new InvalidArgumentError(
        `${layer}: a group needs more than one value a sample, but an input of shape ${shape} in ${this.groups} groups has ` +
          `one; use fewer groups`,
      );
    }
    const least = this.estimate ? 1 : 2;
    if (this.training && samples * area < least) {
      throw new InvalidArgumentError(
        `${layer}: training needs at least ${least} value${least > 1 ? 's' : ''} a channel, but the batch has shape ${shape}; ` +
          `use a larger batch, ${this.estimate ? '' : 'estimate: true, '}or eval()`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, layer);
  }

  #normalizeBatch(x: Tensor, rate: number): Tensor {
    const { weight, bias, runningMean, runningVar, eps } = this;
    if (this.training && !this.estimate) {
      return torch.batchNorm(x, weight, bias, runningMean, runningVar, true, rate, eps, true);
    }
    if (this.training) {
      noGrad(() => {
        const [mean, variance] = torch.batchNormUpdateStats(x.detach(), null, null, 0);
        this.#moveEstimates(mean, variance, rate);
      });
    }
    // Autograd holds the statistics; the next batch may move them before this one's backward pass.
    const [mean, variance] = this.training ? [runningMean.clone(), runningVar.clone()] : [runningMean, runningVar];
    return torch.batchNorm(x, weight, bias, mean, variance, false, 0, eps, true);
  }

  #normalizeInOne(x: Tensor, rate: number): Tensor {
    const { weight, bias, channelWeight, channelBias, runningMean, runningVar, groups, estimate, eps } = this;
    const parameters = { weight, bias, channelWeight, channelBias };
    return batchChannelNorm(x, { ...parameters, runningMean, runningVar, groups, estimate, rate, eps });
  }

  #moveEstimates(mean: Tensor, variance: Tensor, rate: number): void {
    const { dtype } = this.runningMean;
    const shift = mean.to({ dtype }).sub(this.runningMean);
    // mean((x − μ̂)²) without another pass: the variance about the batch's own mean, and the square of how far that is from μ̂.
    this.runningVar.lerp_(variance.to({ dtype }).add(shift.square()), rate);
    this.runningMean.add_(shift, { alpha: rate });
  }

  /** A value a group, once for each of its channels. */
  #byChannel(values: Tensor | null): Tensor | null {
    if (values === null) return null;
    return values
      .unsqueeze(1)
      .expand([this.groups, this.features / this.groups])
      .reshape([-1]);
  }
}
