/** Normalisation by statistics that are not simply the batch's own: what batch renormalisation and the cross-batch norms share. */
import { defineFunction, noGrad, ops, torch, type MemoryFormat, type Tensor } from '../torch';

/** The layout among those that LibTorch's batch-norm kernels are quick with in which `x` lies; contiguous if in none. */
export function kernelFormat(x: Tensor): MemoryFormat {
  if (x.isContiguous()) return 'contiguous_format';
  if (x.ndim === 4 && x.isContiguous('channels_last')) return 'channels_last';
  if (x.ndim === 5 && x.isContiguous('channels_last_3d')) return 'channels_last_3d';
  return 'contiguous_format';
}

/** `x` itself, or a contiguous copy if it lies in no layout that the kernels take whole. */
export function inKernelFormat(x: Tensor): Tensor {
  return x.contiguous({ memoryFormat: kernelFormat(x) });
}

const isShort = (x: Tensor): boolean => x.dtype === 'bfloat16' || x.dtype === 'float16';

/**
 * The mean and the biased variance of each channel of `x` [N, C, …], in float32 for shorter types. The variance is taken about the
 * mean, so large means do not cancel.
 */
export function batchStatistics(x: Tensor): [mean: Tensor, variance: Tensor] {
  return noGrad(() => {
    // With statistics in float32 to move, by nothing, the kernel gives float32 as well.
    const unmoved = isShort(x) ? torch.zeros([x.sizeOf(1)], { device: x.device }) : null;
    const [mean, variance] = torch.batchNormUpdateStats(x, unmoved, unmoved, 0);
    return [mean, variance];
  });
}

/** `x` · `scale` + `shift` a channel with respect to given statistics, by LibTorch's kernel for evaluation: one pass, no graph. */
export function applyStatistics(
  x: Tensor,
  scale: Tensor | null,
  shift: Tensor | null,
  mean: Tensor,
  variance: Tensor,
  eps: number,
): Tensor {
  return torch.nativeBatchNorm(x, scale, shift, mean, variance, false, 0, eps)[0];
}

const nativeBackward = ops.aten!.native_batch_norm_backward!;

/**
 * The sums over each channel that the gradients of scale and shift are, Σ g·(x − mean)·inverse and Σ g, and the input's gradient.
 * With `through` the latter takes `mean` and `inverse` for the batch's own; otherwise for constants.
 */
export function batchNormBackward(
  gradient: Tensor,
  x: Tensor,
  scale: Tensor | null,
  statistics: { mean: Tensor; inverse: Tensor } | { mean: Tensor; variance: Tensor },
  eps: number,
  mask: readonly [boolean, boolean, boolean],
): [input: Tensor | null, scale: Tensor | null, shift: Tensor | null] {
  const through = 'inverse' in statistics;
  const placed = through
    ? [null, null, statistics.mean, statistics.inverse]
    : [statistics.mean, statistics.variance, null, null];
  const dense = gradient.contiguous({ memoryFormat: kernelFormat(x) });
  const gradients = nativeBackward(dense, x, scale, ...placed, through, eps, [...mask]);
  const [input, scaled, shifted] = gradients as [Tensor, Tensor, Tensor];
  return [mask[0] ? input : null, mask[1] ? scaled : null, mask[2] ? shifted : null];
}

/** Channel values [C] in a shape that goes with `x` [N, C, …]. */
export function alongChannels(values: Tensor, x: Tensor): Tensor {
  return values.view([-1, ...x.shape.slice(2).map(() => 1)]);
}

/** The statistics that {@link normalizeBy} uses, [features] each, and how much of them is the batch's own. */
export interface BlendedStatistics {
  mean: Tensor;
  /** Biased. */
  variance: Tensor;
  eps: number;
  /**
   * The weight w of the batch in its mean and mean square, w·μ_B + …, as one value or [features]; the rest is constant. 1: the
   * statistics are the batch's.
   */
  share: Tensor | 1;
  /** Constants r and d of y = (x̂·r + d)·γ + β, [features]. Default: 1 and 0. */
  correction?: { r: Tensor; d: Tensor };
}

/**
 * y = ((x − μ) / √(σ² + eps) · r + d) · γ + β with exact gradients for statistics of which the batch makes up the share w:
 * with g' = g·γ·r / √(σ² + eps), ∂x = g' − w·(mean(g') + x̂·mean(g'·x̂)).
 *
 * @param x [N, C, …]; its memory format is kept
 */
export const normalizeBy = defineFunction<
  [Tensor, Tensor | null, Tensor | null, BlendedStatistics],
  Tensor,
  { eps: number; affine: boolean; corrected: boolean; shared: boolean }
>({
  name: 'normalizeBy',
  forward(context, x, weight, bias, { mean, variance, eps, share, correction }) {
    let [scale, shift] = [weight, bias];
    if (correction) {
      const { r, d } = correction;
      scale = weight === null ? r : weight.mul(r);
      const moved = weight === null ? d : weight.mul(d);
      shift = bias === null ? moved : bias.add(moved);
    }
    const inverse = variance.add(eps).rsqrt();
    const optional = [scale, share === 1 ? null : share, ...(correction ? [correction.r, correction.d] : [])];
    context.state = { eps, affine: scale !== null, corrected: correction !== undefined, shared: share !== 1 };
    context.save(x, mean, inverse, ...optional.filter((tensor) => tensor !== null));
    return applyStatistics(x, scale, shift, mean, variance, eps);
  },
  backward(context, gradient) {
    const { eps, affine, corrected, shared } = context.state;
    const [x, mean, inverse, ...rest] = context.saved as [Tensor, Tensor, Tensor, ...Tensor[]];
    const scale = affine ? rest.shift()! : null;
    const share = shared ? rest.shift()! : null;
    const [r, d] = corrected ? rest : [];
    const [needsX, needsWeight, needsBias] = context.needsGradient as [boolean, boolean, boolean];
    const mask = [needsX, needsWeight, needsBias || (corrected && needsWeight)] as [boolean, boolean, boolean];
    // The kernel's gradient takes the statistics for the batch's own: w times it, and (1 − w) times that of constant statistics.
    const scaled = share === null ? scale : (scale ?? torch.onesLike(mean)).mul(share);
    const [dx, sumScaled, sum] = batchNormBackward(gradient, x, scaled, { mean, inverse }, eps, mask);
    if (dx !== null && share !== null) {
      const direct = (scale ?? torch.onesLike(mean)).mul(inverse).mul(share.neg().add(1));
      dx.addcmul_(gradient, alongChannels(direct, x));
    }
    const gradWeight = needsWeight ? (corrected ? sumScaled!.mul(r!).add(sum!.mul(d!)) : sumScaled) : null;
    return [dx, gradWeight, needsBias ? sum : null];
  },
});
