import {
  InvalidArgumentError,
  defineFunction,
  isGradEnabled,
  ops,
  torch,
  type DType,
  type Device,
  type FunctionContext,
  type RawOperator,
  type Tensor,
} from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';

/** What filter response normalisation is made from. */
export interface FilterResponseNormOptions {
  /** The number of channels C. */
  features: number;
  /** Added to the mean square. Default 1e-6. */
  eps?: number;
  /**
   * Whether to add |ε| with a learnt ε a channel that starts at 1e-4, for maps of one or few positions, where dividing by the root
   * of the mean square leaves little but the sign. Default false.
   */
  learnableEps?: boolean;
  /** Whether the thresholded linear unit max(y, τ) with a learnt τ a channel is part of the layer. Default true. */
  threshold?: boolean;
  /** `'raise'` refuses NaN and infinity, which costs a pass over the input and a wait for the device. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Filter response normalisation with its thresholded linear unit: y = γ x / √(ν² + eps) + β and z = max(y, τ), where ν² is the mean
 * of x² over the positions of each channel of each sample, for x [N, C, …] of any floating-point dtype. Nothing is centred: τ
 * takes the place of the activation that would follow, so leave that out. No state beside the parameters; training and
 * evaluation are the same. Where y = τ the gradient goes to τ. There are no gradients of gradients.
 *
 * In place of batch norm and ReLU in convolutional networks for batches of any size.
 *
 * Singh and Krishnan 2020, Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural
 * Networks. That the learnt ε enters by its absolute value beside 1e-6 and starts at 1e-4 is from memory.
 */
export class FilterResponseNorm extends Module {
  readonly features: number;
  readonly eps: number;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features]. Starts at 1. */
  readonly weight: Parameter;
  /** β, [features]. Starts at 0. */
  readonly bias: Parameter;
  /** τ, [features], or null without `threshold`. Starts at 0. */
  readonly threshold: Parameter | null;
  /** ε, [features], or null without `learnableEps`. Starts at 1e-4. */
  readonly learnedEps: Parameter | null;

  constructor(options: FilterResponseNormOptions) {
    super();
    const { features, eps = 1e-6, learnableEps = false, threshold = true, nonFinite = 'ignore' } = options;
    const { device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.nonFinite = nonFinite;
    const filled = (value: number) => new Parameter(torch.full([features], value, { device, dtype }));
    this.weight = filled(1);
    this.bias = filled(0);
    this.threshold = threshold ? filled(0) : null;
    this.learnedEps = learnableEps ? filled(1e-4) : null;
  }

  /** @throws InvalidArgumentError if the shape does not fit, or `x` holds NaN or infinity and that is to be refused */
  override forward(x: Tensor): Tensor {
    const { shape } = x;
    if (shape.length < 2 || shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, ${this.features}, …], found an input of shape [${shape.join(', ')}]`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, this.constructor.name);
    const eps = this.learnedEps === null ? null : this.learnedEps.abs();
    return normalize(x, this.weight, this.bias, this.threshold, eps, this.eps);
  }
}

/** The dimensions of the positions: all after samples and channels. */
function positionsOf(x: Tensor): number[] {
  return x.shape.slice(2).map((_, index) => index + 2);
}

/** Σ over the positions, [n, C]. A sum over no dimensions would be one over all. */
function positionSum(x: Tensor): Tensor {
  const dimensions = positionsOf(x);
  return dimensions.length === 0 ? x.clone() : x.sum(dimensions);
}

/** Values a channel [C], or a sample and channel [n, C], in the shape that broadcasts over the positions. */
function spread(values: Tensor, x: Tensor): Tensor {
  return values.view([values.ndim === 1 ? 1 : x.sizeOf(0), x.sizeOf(1), ...positionsOf(x).map(() => 1)]);
}

/** Sums of low-precision numbers are taken in float32. */
function computedIn(x: Tensor, weight: Tensor): DType {
  return x.dtype === 'float64' || weight.dtype === 'float64' ? 'float64' : 'float32';
}

const { mul } = ops.aten as { mul: RawOperator };
const { threshold_backward: thresholdBackward } = ops.aten as { threshold_backward: RawOperator };

/** a · b, written over `out`: a new buffer of the size of an activation costs more than the product. */
function mulInto(out: Tensor, a: Tensor, b: Tensor): void {
  (mul.out!(a, b, { out }) as Tensor).dispose();
}

const normalize = defineFunction({
  name: 'filterResponseNorm',
  forward(
    context: FunctionContext<{ count: number; hasThreshold: boolean }>,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    threshold: Tensor | null,
    learned: Tensor | null,
    eps: number,
  ) {
    const count = x.shape.slice(2).reduce((product, size) => product * size, 1);
    const input = x.to({ dtype: computedIn(x, weight) });
    const y = torch.emptyLike(input);
    mulInto(y, input, input);
    const square = positionSum(y).div_(count);
    const scale = square
      .add_(learned ?? 0)
      .add_(eps)
      .rsqrt_();
    mulInto(y, input, spread(scale.mul(weight), x));
    y.add_(spread(bias, x));
    if (threshold !== null) y.clampMin_(spread(threshold, x));
    const z = y.to({ dtype: x.dtype });
    context.state = { count, hasThreshold: threshold !== null };
    context.save(x, scale, weight, ...(threshold === null ? [] : [z, threshold]));
    return z;
  },
  backward(context, gradient) {
    if (isGradEnabled()) {
      throw new InvalidArgumentError('FilterResponseNorm has no gradients of gradients; leave out createGraph');
    }
    const { count, hasThreshold } = context.state;
    const [x, scale, weight, z, threshold] = context.saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const dtype = computedIn(x, weight);
    const input = x.to({ dtype });
    const given = gradient.to({ dtype });
    const dx = torch.emptyLike(input);
    let passed = given;
    if (hasThreshold) {
      // What fell to the threshold gives its gradient to it. Numbers that differ have a difference other than 0.
      const above = z.sub(spread(threshold.to({ dtype: z.dtype }), z)).to({ dtype });
      passed = thresholdBackward.grad_input!(given, above, 0, { gradInput: above }) as Tensor;
    }
    mulInto(dx, passed, input);
    const along = positionSum(dx);
    const total = positionSum(passed);
    // dx = γ s (g − x s² mean(g x)) with s = 1 / √(ν² + ε).
    const slope = scale.mul(weight);
    mulInto(dx, passed, spread(slope, x));
    dx.addcmul_(input, spread(along.mul(slope).mul_(scale.square()).div_(-count), x));
    return [
      dx.to({ dtype: x.dtype }),
      along.mul(scale).sum([0]),
      total.sum([0]),
      hasThreshold ? positionSum(given).sub_(total).sum([0]) : null,
      context.needsGradient[4] ? along.mul(scale.pow(3)).sum([0]).mul_(weight).mul_(-0.5) : null,
    ];
  },
});
