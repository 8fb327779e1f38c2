import { defineFunction, isGradEnabled, noGrad, ops, scope, torch, type Tensor } from '../torch';
import { BatchNorm1d } from './batch-norm1d';

/** Every dimension but the channels'. */
function others(x: Tensor): number[] {
  return x.shape.map((_, dimension) => dimension).filter((dimension) => dimension !== 1);
}

/** A value a channel, in a shape that multiplies `x`. */
function perChannel(values: Tensor, x: Tensor): Tensor {
  return values.view(x.shape.map((_, dimension) => (dimension === 1 ? -1 : 1)));
}

/** The mean of squares a channel, without gradients: LibTorch's statistics are quicker than a norm down the batch. */
function meanSquare(x: Tensor): Tensor {
  const [mean, variance] = torch.batchNormUpdateStats(x.detach(), null, null, 0);
  return torch.addcmul(variance, mean, mean);
}

/** γ x / √(q + eps) + β a channel, where q, given, is the mean of x² and is differentiated as such. */
const divideByRootMeanSquare = defineFunction({
  name: 'uncenteredBatchNorm',
  forward(
    context: { state: { eps: number; hasWeight: boolean; hasBias: boolean }; save: (...tensors: Tensor[]) => void },
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    square: Tensor,
    eps: number,
  ): Tensor {
    context.state = { eps, hasWeight: weight !== null, hasBias: bias !== null };
    context.save(x, square, ...(weight === null ? [] : [weight]));
    return torch.batchNorm(x, weight, bias, square.zerosLike(), square, false, 0, eps, false);
  },
  backward(context, gradient): (Tensor | null)[] {
    const { eps, hasWeight, hasBias } = context.state;
    const [x, known, weight] = context.saved as [Tensor, Tensor, Tensor | undefined];
    const dimensions = others(x);
    // A backward pass that is itself recorded takes q and the sums anew from x, by operators that can be differentiated.
    const isRecorded = isGradEnabled();
    const square = isRecorded ? x.square().mean(dimensions) : known;
    const [product, sum] = isRecorded
      ? [gradient.mul(x).sum(dimensions), gradient.sum(dimensions)]
      : sums(gradient, x, known);
    const reciprocal = square.add(eps).rsqrt();
    const scale = weight === undefined ? reciprocal : reciprocal.mul(weight);
    const pull = product
      .mul(scale)
      .mul(reciprocal.square())
      .div(x.numel() / x.sizeOf(1));
    const [a, b] = [perChannel(scale, x), perChannel(pull, x)];
    const ofInput = isRecorded ? gradient.mul(a).sub(x.mul(b)) : gradient.mul(a).addcmul_(x, b, { value: -1 });
    return [ofInput, hasWeight ? product.mul(reciprocal) : null, hasBias ? sum : null];
  },
});

/** Σ g x and Σ g a channel, in one pass. */
function sums(gradient: Tensor, x: Tensor, like: Tensor): [Tensor, Tensor] {
  const [zeros, ones] = [like.zerosLike(), like.onesLike()];
  const mask = [false, true, true];
  const made = ops.aten.native_batch_norm_backward(gradient, x, null, null, null, zeros, ones, true, 0, mask);
  return (made as [Tensor, Tensor, Tensor]).slice(1) as [Tensor, Tensor];
}

/**
 * Batch normalisation that takes no mean away: y = γ x / √(q + eps) + β a channel, for [N, C] or [N, C, L], where q is the mean of
 * x² over the batch in training and its running mean in evaluation. (The authors' code has no eps, no γ and β, and always the
 * batch's q.)
 *
 * Options, state and errors are those of {@link BatchNorm1d}: `runningVar` holds the running q and `runningMean` stays at 0, so
 * evaluation is plain batch normalisation, and the layer turns into one by copying its state.
 *
 * The layer for which gradients stay bounded at any depth, in {@link OrthogonalBatchNormMLP}.
 *
 * Meterez, Joudaki, Orabona, Immer, Rätsch and Daneshmand 2024, Towards Training Without Depth Limits: Batch Normalization Without
 * Gradient Explosion.
 */
export class UncenteredBatchNorm1d extends BatchNorm1d {
  protected override normalize(x: Tensor, mean: Tensor | null, variance: Tensor | null, momentum: number): Tensor {
    if (!this.training && mean !== null) return super.normalize(x, mean, variance, momentum);
    return scope(() => {
      // LibTorch mixes dtypes only so far: half precision is widened where the statistics are.
      const isHalf = x.dtype === 'float16' || x.dtype === 'bfloat16';
      const wide = (tensor: Tensor | null) => (isHalf && tensor !== null ? tensor.to({ dtype: 'float32' }) : tensor);
      const input = wide(x)!;
      const square = noGrad(() => meanSquare(input));
      if (this.training && variance !== null) {
        noGrad(() => variance.lerp_(square.to({ dtype: variance.dtype }), momentum));
      }
      const y = divideByRootMeanSquare(input, wide(this.weight), wide(this.bias), square, this.eps);
      return isHalf ? y.to({ dtype: x.dtype }) : y;
    });
  }
}
