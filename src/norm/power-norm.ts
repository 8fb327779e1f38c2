import {
  defineFunction,
  InvalidArgumentError,
  noGrad,
  scope,
  torch,
  type Device,
  type DType,
  type Tensor,
} from '../torch';
import { Module, Parameter } from '../nn';
import { integerFrom, numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';
import { inKernelFormat } from './channel-layout';
import { countBatches, groupCombine, groupMoments, groupSums } from './operators';

/** What PowerNorm is made from. */
export interface PowerNormOptions {
  /** The number of channels C. */
  features: number;
  /** Added to the quadratic mean. Default 1e-5. */
  eps?: number;
  /** The weight of the newest batch in the running quadratic mean. Default 0.1 (the authors write α = 0.9 for what is kept). */
  momentum?: number;
  /** What a batch adds to the running gradient term. Default 0.1 (the authors' α = 0.9 for what is kept). */
  backwardMomentum?: number;
  /** How many batches at the start are normalised by their own quadratic mean. Default 10,000, as in the authors' code. */
  warmUp?: number;
  /** Where the channels are: `'first'` (default) in dimension 1, `'last'` in the last one. */
  channels?: 'first' | 'last';
  /**
   * Divides each position's channels by their root mean square first, in this many groups. The authors' code does so with 1, the
   * paper does not mention it. Default: not.
   */
  groupScaling?: number;
  /** Whether to scale and shift by learnt values. Default true. */
  affine?: boolean;
  /** As for {@link BatchNorm}. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

interface Passes {
  /** What the forward pass divides by the root of, [features]. */
  used: Tensor;
  /** The batch's quadratic mean, [features]. */
  own: Tensor;
  gradientMean: Tensor;
  eps: number;
  backwardMomentum: number;
}

const powerNorm = defineFunction<
  [Tensor, Tensor | null, Tensor | null, Passes],
  Tensor,
  Pick<Passes, 'gradientMean' | 'eps' | 'backwardMomentum'>
>({
  name: 'powerNorm',
  forward(context, x, weight, bias, passes) {
    const { used, own, gradientMean, eps, backwardMomentum } = passes;
    const zero = torch.zerosLike(used);
    context.state = { gradientMean, eps, backwardMomentum };
    context.save(x, used, own, zero, ...(weight === null ? [] : [weight]));
    return torch.nativeBatchNorm(x, weight, bias, zero, used, false, 0, eps)[0];
  },
  backward(context, gradient) {
    const { gradientMean, eps, backwardMomentum } = context.state;
    const [x, used, own, zero, weight] = context.saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
    const [needsX, needsWeight, needsBias] = context.needsGradient as [boolean, boolean, boolean];
    const sizes = [x.sizeOf(0)];
    const inverse = used.add(eps).rsqrt_();
    const ownInverse = own.add(eps).rsqrt_();
    const [sum, product] = groupSums(gradient, x, zero, sizes);
    // Σ g·z: the gradient of γ.
    const products = product.mul_(inverse);
    const kept = gradientMean.to({ dtype: used.dtype }).mul(backwardMomentum);
    let dx: Tensor | null = null;
    if (needsX) {
      const slope = weight ? ownInverse.mul(weight) : ownInverse;
      dx = groupCombine(gradient, x, [slope, kept.mul(inverse).mul_(ownInverse).neg_(), zero], sizes);
    }
    noGrad(() => {
      const values = x.numel() / x.sizeOf(1);
      const scaled = (weight ? products.mul(weight) : products).div(values);
      const square = inverse.square().mul_(own).mul_(kept);
      gradientMean.add_(scaled.sub(square).to({ dtype: gradientMean.dtype }));
    });
    return [dx, needsWeight ? products : null, needsBias ? sum : null];
  },
});

/**
 * PowerNorm: batch norm without means, by a running quadratic mean in the forward pass already, z = x / √(φ + eps), y = z·γ + β.
 * With ψ² the batch's mean of x² a channel: during the first `warmUp` batches z = x / √(ψ² + eps), and φ is their plain mean (each
 * step then moved by `momentum` as well); afterwards z = x / √(φ + eps) with φ from before the batch, which then moves towards ψ² by
 * `momentum`. Evaluation uses φ.
 *
 * The backward pass is the paper's approximation, not the derivative: with g = ∂y·γ and m the `backwardMomentum`,
 * d = g − m·ν·z, ∂x = d / √(ψ² + eps) with the batch's ψ², and ν ← ν + mean(d·z). This changes state, so each training forward pass
 * wants one backward pass; gradients of gradients are not what the formula's would be. Both passes are as in the authors' code; the
 * paper writes ν for m·ν.
 *
 * For x [N, C, …], or [N, …, C] with `channels: 'last'`, in float32, float64, bfloat16 or float16. Parameters `weight` and `bias` as
 * batch norm's; state `runningPhi` (φ), `emaGz` (ν) and `numBatchesTracked`. {@link withoutPadding} leaves padded positions out.
 *
 * Use it in place of layer norm in transformers, where means of batches fluctuate too much for batch norm.
 *
 * Shen, Yao, Gholami, Mahoney and Keutzer 2020, PowerNorm: Rethinking Batch Normalization in Transformers.
 */
export class PowerNorm extends Module {
  readonly features: number;
  readonly eps: number;
  readonly momentum: number;
  readonly backwardMomentum: number;
  readonly warmUp: number;
  readonly channels: 'first' | 'last';
  readonly groupScaling: number | null;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features], or null without `affine`. Starts at 1. */
  readonly weight: Parameter | null;
  /** β, [features], or null without `affine`. Starts at 0. */
  readonly bias: Parameter | null;
  /** φ, [features]. Starts at 1. */
  readonly runningPhi: Tensor;
  /** ν, [features]. Starts at 0. */
  readonly emaGz: Tensor;
  /** How many batches were seen in training: int64, no dimensions. */
  readonly numBatchesTracked: Tensor;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: PowerNormOptions) {
    super();
    const { features, eps = 1e-5, momentum = 0.1, backwardMomentum = 0.1, warmUp = 10_000 } = options;
    const { channels = 'first', groupScaling = null, affine = true, nonFinite = 'ignore' } = options;
    const { device = 'cpu', dtype = 'float32' } = options;
    this.features = positiveInteger(features, 'PowerNorm: features');
    this.eps = numberWithin(0, Infinity, eps, 'PowerNorm: eps');
    this.momentum = numberWithin(0, 1, momentum, 'PowerNorm: momentum');
    this.backwardMomentum = numberWithin(0, 1, backwardMomentum, 'PowerNorm: backwardMomentum');
    this.warmUp = integerFrom(0, warmUp, 'PowerNorm: warmUp');
    this.channels = channels;
    if (groupScaling !== null && features % positiveInteger(groupScaling, 'PowerNorm: groupScaling') !== 0) {
      throw new InvalidArgumentError(`PowerNorm: ${features} channels do not divide into groupScaling ${groupScaling}`);
    }
    this.groupScaling = groupScaling;
    this.nonFinite = nonFinite;
    this.weight = affine ? new Parameter(torch.ones([features], { device, dtype })) : null;
    this.bias = affine ? new Parameter(torch.zeros([features], { device, dtype })) : null;
    this.runningPhi = this.registerBuffer('runningPhi', torch.ones([features], { device, dtype }));
    this.emaGz = this.registerBuffer('emaGz', torch.zeros([features], { device, dtype }));
    this.numBatchesTracked = this.registerBuffer('numBatchesTracked', torch.zeros([], { device, dtype: 'int64' }));
  }

  /** @throws InvalidArgumentError if the shape does not fit, or there is nothing to take a mean of */
  override forward(x: Tensor): Tensor {
    const { channels, features, nonFinite } = this;
    const found = x.shape[channels === 'first' ? 1 : x.ndim - 1];
    if (x.ndim < 2 || found !== features || x.numel() === 0) {
      throw new InvalidArgumentError(
        `PowerNorm: expected [N, ${channels === 'first' ? `${features}, …` : `…, ${features}`}] that is not empty, found shape ` +
          `[${x.shape.join(', ')}]`,
      );
    }
    if (nonFinite === 'raise') checkFinite(x, 'PowerNorm');
    return scope(() => {
      const scaled = this.#groupScaled(x);
      // With the channels last, all positions are samples: rows that the kernels take as they lie.
      if (channels === 'last') return this.#normalize(scaled.reshape([-1, features])).view([...x.shape]);
      return this.#normalize(inKernelFormat(scaled));
    });
  }

  #groupScaled(x: Tensor): Tensor {
    const { groupScaling, channels, eps } = this;
    if (groupScaling === null) return x;
    const dimension = channels === 'first' ? 1 : x.ndim - 1;
    const groups = x.unflatten(dimension, [groupScaling, -1]);
    const power = groups.square().mean([dimension + 1], true);
    return groups.div(power.add(eps).sqrt()).flatten(dimension, dimension + 1);
  }

  #normalize(x: Tensor): Tensor {
    const { weight, bias, runningPhi, emaGz, numBatchesTracked, eps, momentum, backwardMomentum } = this;
    if (!this.training) {
      const zero = torch.zerosLike(runningPhi);
      return torch.batchNorm(x, weight, bias, zero, runningPhi, false, 0, eps, true);
    }
    const { used, own } = noGrad(() => {
      const [mean, variance] = groupMoments(x, [x.sizeOf(0)]);
      const own = torch.addcmul(variance, mean, mean);
      const phi = runningPhi.to({ dtype: own.dtype });
      countBatches(numBatchesTracked, 1);
      if (numBatchesTracked.device === 'cpu') {
        const batches = numBatchesTracked.itemSync();
        const used = batches <= this.warmUp ? own : phi.clone();
        const plain = batches < this.warmUp ? phi.lerp(own, 1 / batches) : phi;
        runningPhi.copy_(plain.lerp(own, momentum));
        return { used, own };
      }
      // On the device, so that nothing waits for it.
      const used = torch.where(numBatchesTracked.le(this.warmUp), own, phi);
      const share = numBatchesTracked.to({ dtype: 'float64' }).reciprocal().to({ dtype: own.dtype });
      const plain = torch.where(numBatchesTracked.lt(this.warmUp), phi.lerp(own, share), phi);
      runningPhi.copy_(plain.lerp(own, momentum));
      return { used, own };
    });
    return powerNorm(x, weight, bias, { used, own, gradientMean: emaGz, eps, backwardMomentum });
  }
}
