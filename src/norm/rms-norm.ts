import { torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin } from '../nn/checks';
import { checkFinite } from './batch-norm';
import { checkEnding, normalizedSizes } from './layer-norm';

/** What root-mean-square normalisation is made from. */
export interface RMSNormOptions {
  /** The sizes of the last dimensions, over which the mean square is taken; a number for the last one alone. */
  normalizedShape: number | readonly number[];
  /**
   * Added to the mean square. Default null: the distance from 1 to the next number of the dtype that LibTorch computes in, as in
   * PyTorch. Language models mostly use 1e-6 or 1e-5.
   */
  eps?: number | null;
  /** Whether to scale by learnt values, one an element (PyTorch: `elementwise_affine`). Default true. */
  affine?: boolean;
  /** `'raise'` refuses NaN and infinity, which costs a pass over the input and a wait for the device. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Root-mean-square normalisation: y = x / √(mean(x²) + eps) · γ over the last dimensions of each sample, for x
 * [..., normalizedShape] of any floating-point dtype. Nothing is centred and nothing shifted. No state beside γ; training and
 * evaluation are the same. Options, their defaults and the state's names are PyTorch's.
 *
 * In place of {@link LayerNorm} where its centring is not needed, as in most language models.
 *
 * Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
 */
export class RMSNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number | null;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, of `normalizedShape`, or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;

  constructor(options: RMSNormOptions) {
    super();
    const { eps = null, affine = true, nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.normalizedShape = normalizedSizes(options.normalizedShape, layer);
    this.eps = eps === null ? null : numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones(this.normalizedShape, { device, dtype })) : null;
  }

  /** @throws InvalidArgumentError if the shape does not fit, or `x` holds NaN or infinity and that is to be refused */
  override forward(x: Tensor): Tensor {
    checkEnding(x, this.normalizedShape, this.constructor.name);
    if (this.nonFinite === 'raise') checkFinite(x, this.constructor.name);
    return torch.rmsNorm(x, this.normalizedShape, this.weight, this.eps);
  }
}
