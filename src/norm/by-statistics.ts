/** Batch normalisation's statistics, result and gradients apart, by LibTorch's own kernels: what PowerNorm is made of. */
import { noGrad, ops, torch, type MemoryFormat, type Tensor } from '../torch';

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
