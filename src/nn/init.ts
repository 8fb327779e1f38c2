/**
 * Starting values of parameters. Every function fills the given tensor in place without recording gradients, and returns
 * it. With the same generator state the values equal those of `torch.nn.init`, save for the truncated normal distribution.
 */
import { InvalidArgumentError, noGrad, type Generator, type Tensor } from '../torch';

/** Where the random numbers come from. */
export interface RandomOptions {
  /** Default: the default generator of the tensor's device. */
  generator?: Generator;
}

/** The function that follows the layer, which decides how much the values must be widened. */
export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leaky_relu' | 'selu';

/** What the Kaiming functions take. */
export interface KaimingOptions extends RandomOptions {
  /** `'fan_in'` (default) keeps the variance of the forward pass, `'fan_out'` that of the backward pass. */
  mode?: 'fan_in' | 'fan_out';
  /** The function that follows. Default `'leaky_relu'`. */
  nonlinearity?: Nonlinearity;
  /** The negative slope of a leaky ReLU. Default 0, which is ReLU. */
  slope?: number;
}

/**
 * The number of inputs that feed one output of a weight [out, in, ...kernel], and the number of outputs that one input
 * feeds: in · kernel and out · kernel.
 *
 * @throws InvalidArgumentError for a tensor of fewer than two dimensions
 */
export function fans(tensor: Tensor): { fanIn: number; fanOut: number } {
  const [out, input, ...kernel] = tensor.shape;
  if (out === undefined || input === undefined) {
    throw new InvalidArgumentError(
      `fan-in and fan-out need a weight of at least two dimensions, found shape [${tensor.shape.join(', ')}]`,
    );
  }
  const field = kernel.reduce((product, size) => product * size, 1);
  return { fanIn: input * field, fanOut: out * field };
}

/** The factor by which the standard deviation is widened to make up for what the nonlinearity takes away. */
export function gain(nonlinearity: Nonlinearity, slope = 0.01): number {
  switch (nonlinearity) {
    case 'linear':
    case 'sigmoid':
      return 1;
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leaky_relu':
      return Math.sqrt(2 / (1 + slope * slope));
    case 'selu':
      return 3 / 4;
  }
}

/** Fills with one value. */
export function constant_<T extends Tensor>(tensor: T, value: number): T {
  return filled(tensor, () => tensor.fill_(value));
}

/** Fills with zeros. */
export function zeros_<T extends Tensor>(tensor: T): T {
  return constant_(tensor, 0);
}

/** Fills with ones. */
export function ones_<T extends Tensor>(tensor: T): T {
  return constant_(tensor, 1);
}

/** Fills from the uniform distribution on [low, high). */
export function uniform_<T extends Tensor>(tensor: T, low = 0, high = 1, options: RandomOptions = {}): T {
  return filled(tensor, () => tensor.uniform_(low, high, { generator: options.generator ?? null }));
}

/** Fills from the normal distribution. */
export function normal_<T extends Tensor>(tensor: T, mean = 0, std = 1, options: RandomOptions = {}): T {
  return filled(tensor, () => tensor.normal_(mean, std, { generator: options.generator ?? null }));
}

/**
 * Fills from a normal distribution whose values outside [low, high] are drawn again, by inverting the cumulative
 * distribution function.
 */
export function truncatedNormal_<T extends Tensor>(
  tensor: T,
  mean = 0,
  std = 1,
  low = -2,
  high = 2,
  options: RandomOptions = {},
): T {
  if (!(low < high) || !(std > 0)) {
    throw new InvalidArgumentError(`need low < high and std > 0, found low ${low}, high ${high}, std ${std}`);
  }
  const lowest = standardNormalCumulative((low - mean) / std);
  const highest = standardNormalCumulative((high - mean) / std);
  return filled(tensor, () => {
    // Uniform between the two cumulative probabilities, mapped back: x = mean + std * sqrt(2) * erfinv(2u - 1).
    tensor.uniform_(2 * lowest - 1, 2 * highest - 1, { generator: options.generator ?? null }).dispose();
    tensor.erfinv_().dispose();
    tensor.mul_(std * Math.SQRT2).dispose();
    tensor.add_(mean).dispose();
    return tensor.clamp_(low, high);
  });
}

/**
 * Uniform values on ±gain · √(3 / fan) (He et al. 2015, "Delving Deep into Rectifiers").
 */
export function kaimingUniform_<T extends Tensor>(tensor: T, options: KaimingOptions = {}): T {
  const bound = Math.sqrt(3) * kaimingDeviation(tensor, options);
  return uniform_(tensor, -bound, bound, options);
}

/**
 * Normal values of standard deviation gain / √fan (He et al. 2015, "Delving Deep into Rectifiers").
 */
export function kaimingNormal_<T extends Tensor>(tensor: T, options: KaimingOptions = {}): T {
  return normal_(tensor, 0, kaimingDeviation(tensor, options), options);
}

/**
 * Uniform values on ±gain · √(6 / (fan-in + fan-out)) (Glorot and Bengio 2010).
 */
export function xavierUniform_<T extends Tensor>(tensor: T, options: RandomOptions & { gain?: number } = {}): T {
  const bound = Math.sqrt(3) * xavierDeviation(tensor, options.gain);
  return uniform_(tensor, -bound, bound, options);
}

/**
 * Normal values of standard deviation gain · √(2 / (fan-in + fan-out)) (Glorot and Bengio 2010).
 */
export function xavierNormal_<T extends Tensor>(tensor: T, options: RandomOptions & { gain?: number } = {}): T {
  return normal_(tensor, 0, xavierDeviation(tensor, options.gain), options);
}

function kaimingDeviation(tensor: Tensor, options: KaimingOptions): number {
  const { mode = 'fan_in', nonlinearity = 'leaky_relu', slope = 0 } = options;
  const { fanIn, fanOut } = fans(tensor);
  return gain(nonlinearity, slope) / Math.sqrt(mode === 'fan_in' ? fanIn : fanOut);
}

function xavierDeviation(tensor: Tensor, factor = 1): number {
  const { fanIn, fanOut } = fans(tensor);
  return factor * Math.sqrt(2 / (fanIn + fanOut));
}

function filled<T extends Tensor>(tensor: T, fill: () => Tensor): T {
  noGrad(() => {
    const alias = fill();
    if (alias !== tensor) alias.dispose();
  });
  return tensor;
}

/** P(X ≤ x) for X ~ N(0, 1), to about 1e-15. */
function standardNormalCumulative(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  const tail = z < 2 ? 1 - errorFunctionSeries(z) : complementaryErrorFraction(z);
  return x > 0 ? 1 - tail / 2 : tail / 2;
}

/** erf(z) by its Maclaurin series 2/√π · Σ (−1)ⁿ z²ⁿ⁺¹ / (n! (2n+1)). */
function errorFunctionSeries(z: number): number {
  let term = z;
  let sum = z;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (-z * z) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** erfc(z) for z ≥ 2 by its continued fraction, evaluated from the far end. */
function complementaryErrorFraction(z: number): number {
  let fraction = z;
  for (let n = 60; n >= 1; n--) fraction = z + n / 2 / fraction;
  return Math.exp(-z * z) / (fraction * Math.sqrt(Math.PI));
}
