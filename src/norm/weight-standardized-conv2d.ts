import { InvalidArgumentError, scope, torch, type Tensor } from '../torch';
import { Conv2d, init, type Conv2dOptions } from '../nn';
import { numberWithin } from '../nn/checks';

/** What a {@link WeightStandardizedConv2d} is made from. */
export interface WeightStandardizedConv2dOptions extends Conv2dOptions {
  /** Added to the variance of a filter. Default 1e-5, as in the authors' code. */
  eps?: number;
  /**
   * By how much the number n of a filter's weights is reduced where their squares are averaged: 1 (default, the authors' code)
   * divides by n − 1, 0 (the paper's formula, and timm) by n.
   */
  correction?: 0 | 1;
}

/**
 * Convolution by standardised filters: y = conv(x, Ŵ) + b with Ŵ = (W − μ) / √(σ² + eps), where μ and σ² are the mean and
 * variance of the weights of one output channel. Gradients flow through μ and σ². Shapes, options and state are those of
 * {@link Conv2d}; only `weight` and `bias` are state, so a checkpoint of plain convolutions loads, and means another network.
 *
 * Use it with group or batch-channel normalisation, where batches are too small for batch normalisation.
 *
 * Qiao, Wang, Liu, Shen and Yuille 2019, Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
 */
export class WeightStandardizedConv2d extends Conv2d {
  readonly eps: number;
  readonly correction: 0 | 1;

  /** @throws InvalidArgumentError if a filter has one weight only, whose variance says nothing, or an option makes no sense */
  constructor(options: WeightStandardizedConv2dOptions) {
    super(options);
    const { eps = 1e-5, correction = 1 } = options;
    const layer = new.target.name;
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.correction = correction;
    if (init.fans(this.weight).fanIn < 2) {
      throw new InvalidArgumentError(
        `${layer}: a filter needs at least two weights to be standardised, found a weight of shape ` +
          `[${this.weight.shape.join(', ')}]; use a larger kernel, fewer groups, or Conv2d`,
      );
    }
  }

  /** The filters that the input is convolved with, [outChannels, inChannels / groups, kernel height, kernel width]. */
  standardizedWeight(): Tensor {
    return scope(() => {
      const { centred, norm } = this.centredFilters();
      const variance = norm.square().div(init.fans(this.weight).fanIn - this.correction);
      return centred.mul(variance.add(this.eps).rsqrt());
    });
  }

  /**
   * The filters with mean 0, and the length of each, [outChannels, 1, 1, 1]. (LibTorch's variance is several times slower than its
   * norm.)
   */
  protected centredFilters(): { centred: Tensor; norm: Tensor } {
    const centred = this.weight.sub(this.weight.mean([1, 2, 3], { keepdim: true }));
    return { centred, norm: centred.linalgVectorNorm(2, [1, 2, 3], { keepdim: true }) };
  }

  override forward(x: Tensor): Tensor {
    return scope(() =>
      torch.conv2d(x, this.standardizedWeight(), this.bias, this.stride, this.padding, this.dilation, this.groups),
    );
  }
}
