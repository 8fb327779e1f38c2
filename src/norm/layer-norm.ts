import { InvalidArgumentError, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';

/** What layer normalisation is made from. */
export interface LayerNormOptions {
  /** The sizes of the last dimensions, over which statistics are taken; a number for the last one alone. */
  normalizedShape: number | readonly number[];
  /** Added to the variance. Default 1e-5; many transformers use 1e-6 or 1e-12. */
  eps?: number;
  /** Whether to scale and shift by learnt values, one an element (PyTorch: `elementwise_affine`). Default true. */
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
 * The sizes as a list.
 *
 * @throws InvalidArgumentError naming the layer, unless there is at least one and each is a positive integer
 */
export function normalizedSizes(shape: number | readonly number[], layer: string): readonly number[] {
  const sizes = typeof shape === 'number' ? [shape] : [...shape];
  if (sizes.length === 0) throw new InvalidArgumentError(`${layer}: normalizedShape needs at least one size`);
  for (const size of sizes) positiveInteger(size, `${layer}: each size of normalizedShape`);
  return sizes;
}

/** @throws InvalidArgumentError naming the layer unless the shape of `x` ends in `sizes`. */
export function checkEnding(x: Tensor, sizes: readonly number[], layer: string): void {
  const { shape } = x;
  const before = shape.length - sizes.length;
  if (before >= 0 && sizes.every((size, index) => shape[before + index] === size)) return;
  throw new InvalidArgumentError(
    `${layer}: expected a shape that ends in [${sizes.join(', ')}], found [${shape.join(', ')}]`,
  );
}

/**
 * Layer normalisation: y = (x − μ) / √(σ² + eps) · γ + β with mean μ and biased variance σ² over the last dimensions of each
 * sample, for x [..., normalizedShape] of any floating-point dtype. No state beside γ and β; training and evaluation are the same.
 * Options, their defaults and the state's names are PyTorch's.
 *
 * The norm of transformers; also where batches are small or samples must not see one another.
 *
 * Ba, Kiros and Hinton 2016, Layer Normalization.
 */
export class LayerNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, of `normalizedShape`, or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, of `normalizedShape`, or null without `affine` or `bias`. Starts at 0. */
  readonly bias: Parameter | null;

  /** @throws InvalidArgumentError if the shape is a single element, which has no variance */
  constructor(options: LayerNormOptions) {
    super();
    const { eps = 1e-5, affine = true, bias = true, nonFinite = 'ignore', device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    const sizes = normalizedSizes(options.normalizedShape, layer);
    if (sizes.every((size) => size === 1)) {
      throw new InvalidArgumentError(
        `${layer}: normalizedShape [${sizes.join(', ')}] is one value, which has no variance`,
      );
    }
    this.normalizedShape = sizes;
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones(sizes, { device, dtype })) : null;
    this.bias = affine && bias ? new Parameter(torch.zeros(sizes, { device, dtype })) : null;
  }

  /** @throws InvalidArgumentError if the shape does not fit, or `x` holds NaN or infinity and that is to be refused */
  override forward(x: Tensor): Tensor {
    checkEnding(x, this.normalizedShape, this.constructor.name);
    if (this.nonFinite === 'raise') checkFinite(x, this.constructor.name);
    return torch.layerNorm(x, this.normalizedShape, this.weight, this.bias, this.eps, true);
  }
}
