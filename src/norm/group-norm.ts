import { InvalidArgumentError, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';

/** What group normalisation is made from. */
export interface GroupNormOptions {
  /** The number of channels C. */
  features: number;
  /** Into how many groups of neighbours the channels are split; divides `features`. The paper's choice is 32. */
  groups: number;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Whether to scale and shift by learnt values, one a channel. Default true. */
  affine?: boolean;
  /** Whether `affine` has the shift β as well as the scale γ. Default true. */
  bias?: boolean;
  /** `'raise'` refuses NaN and infinity, which costs a pass over the input and a wait for the device. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Group normalisation: y = (x − μ) / √(σ² + eps) · γ + β, where mean μ and biased variance σ² are taken over each group of
 * channels of each sample, and γ and β are a channel's, for x [N, C, …] of any floating-point dtype. One group is layer
 * normalisation of a map, as many as channels {@link InstanceNorm}. No state beside γ and β; training and evaluation are the
 * same. State names are PyTorch's; its `num_groups` and `num_channels` are `groups` and `features`.
 *
 * In place of batch norm where batches are small, and where statistics of the batch would leak.
 *
 * Wu and He 2018, Group Normalization.
 */
export class GroupNorm extends Module {
  readonly features: number;
  readonly groups: number;
  readonly eps: number;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine` or `bias`. Starts at 0. */
  readonly bias: Parameter | null;

  /** @throws InvalidArgumentError if the groups do not divide the channels */
  constructor(options: GroupNormOptions) {
    super();
    const { features, groups, eps = 1e-5, affine = true, bias = true, nonFinite = 'ignore' } = options;
    const { device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.groups = positiveInteger(groups, `${layer}: groups`);
    if (features % groups !== 0) {
      throw new InvalidArgumentError(
        `${layer}: ${groups} groups do not divide ${features} channels evenly; choose a divisor`,
      );
    }
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones([features], { device, dtype })) : null;
    this.bias = affine && bias ? new Parameter(torch.zeros([features], { device, dtype })) : null;
  }

  /**
   * @throws InvalidArgumentError if the shape does not fit, a group has a single value, or `x` holds NaN or infinity and that is
   * to be refused
   */
  override forward(x: Tensor): Tensor {
    const layer = this.constructor.name;
    const { shape } = x;
    if (shape.length < 2 || shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${layer}: expected [N, ${this.features}, …], found an input of shape [${shape.join(', ')}]`,
      );
    }
    const values = shape.reduce((product, size, dimension) => (dimension < 2 ? product : product * size), 1);
    if (values * (this.features / this.groups) === 1) {
      throw new InvalidArgumentError(
        `${layer}: with ${this.groups} groups an input of shape [${shape.join(', ')}] has one value a group, which has no ` +
          'variance; use fewer groups',
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, layer);
    // LibTorch's kernel for channels-last maps takes the variance as a difference of squares. Where exactness is what counts, the
    // other one is used.
    const input = x.dtype === 'float64' ? x.contiguous() : x;
    return torch.groupNorm(input, this.groups, this.weight, this.bias, this.eps, true);
  }
}
