import { InvalidArgumentError, type Tensor } from '../torch';

/** An activation whose gain is known. */
export type NFActivation = 'identity' | 'relu' | 'leaky_relu' | 'elu' | 'selu' | 'gelu' | 'silu' | 'softplus' | 'tanh';

interface Activation {
  /** On tensors. */
  readonly apply: (x: Tensor) => Tensor;
  /** On numbers. */
  readonly at: (x: number) => number;
  /** Whether f(s x) = s f(x) for s > 0. */
  readonly homogeneous?: boolean;
}

const seluAlpha = 1.6732632423543772;
const seluScale = 1.0507009873554805;

const activations: Readonly<Record<NFActivation, Activation>> = {
  identity: { apply: (x) => x, at: (x) => x, homogeneous: true },
  relu: { apply: (x) => x.relu(), at: (x) => Math.max(x, 0), homogeneous: true },
  leaky_relu: { apply: (x) => x.leakyRelu(), at: (x) => (x > 0 ? x : 0.01 * x), homogeneous: true },
  elu: { apply: (x) => x.elu(), at: (x) => (x > 0 ? x : Math.expm1(x)) },
  selu: { apply: (x) => x.selu(), at: (x) => seluScale * (x > 0 ? x : seluAlpha * Math.expm1(x)) },
  gelu: { apply: (x) => x.gelu(), at: (x) => x * normalCumulative(x) },
  silu: { apply: (x) => x.silu(), at: (x) => x / (1 + Math.exp(-x)) },
  softplus: { apply: (x) => x.softplus(), at: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) },
  tanh: { apply: (x) => x.tanh(), at: Math.tanh },
};

const gains = new Map<NFActivation, number>();

/**
 * γ = 1 / √Var[f(z)] for z ~ N(0, 1): by how much an activation f must be widened to give unit variance for a standard normal
 * input; √2 / √(1 − 1/π) = 1.7129 for ReLU. Worked out by quadrature to about 1e-8, where the tables in the authors' code and in
 * timm come from random samples and are right to about three digits.
 *
 * Brock, De and Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets.
 *
 * @throws InvalidArgumentError for an activation that is not known
 */
export function activationGain(name: NFActivation): number {
  const known = gains.get(name);
  if (known !== undefined) return known;
  const { at } = activationOf(name);
  const mean = normalMean(at);
  const gain = 1 / Math.sqrt(normalMean((x) => (at(x) - mean) ** 2));
  gains.set(name, gain);
  return gain;
}

/** @internal What is known of an activation. */
export function activationOf(name: NFActivation): Activation {
  if (!Object.hasOwn(activations, name)) {
    throw new InvalidArgumentError(
      `activation must be one of ${Object.keys(activations).join(', ')}; found ${String(name)}`,
    );
  }
  return activations[name];
}

/** E[f(z)] for z ~ N(0, 1), by Simpson's rule on each side of 0, where some activations have a corner. */
function normalMean(f: (x: number) => number): number {
  const steps = 2400;
  const side = (sign: 1 | -1): number => {
    const h = 12 / steps;
    let sum = 0;
    for (let i = 0; i <= steps; i++) {
      const x = sign * i * h;
      const weight = i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2;
      sum += weight * f(x) * Math.exp((-x * x) / 2);
    }
    return (sum * h) / 3 / Math.sqrt(2 * Math.PI);
  };
  return side(1) + side(-1);
}

/** P(X ≤ x) for X ~ N(0, 1), from the series of the error function; beyond 6 it is 0 or 1 to 1e-9. */
function normalCumulative(x: number): number {
  if (Math.abs(x) > 6) return x > 0 ? 1 : 0;
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (x * x) / (2 * n + 1);
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}
