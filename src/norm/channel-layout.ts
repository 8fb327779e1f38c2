/** How channels lie in memory, and numbers a channel beside them. */
import type { MemoryFormat, Tensor } from '../torch';

/** The layout among those that LibTorch's batch-norm kernels are quick with in which `x` lies; contiguous if in none. */
function kernelFormat(x: Tensor): MemoryFormat {
  if (x.isContiguous()) return 'contiguous_format';
  if (x.ndim === 4 && x.isContiguous('channels_last')) return 'channels_last';
  if (x.ndim === 5 && x.isContiguous('channels_last_3d')) return 'channels_last_3d';
  return 'contiguous_format';
}

/** `x` itself, or a contiguous copy if it lies in no layout that the kernels take whole. */
export function inKernelFormat(x: Tensor): Tensor {
  return x.contiguous({ memoryFormat: kernelFormat(x) });
}

/** Channel values [C] in a shape that goes with `x` [N, C, …]. */
export function alongChannels(values: Tensor, x: Tensor): Tensor {
  return values.view([-1, ...x.shape.slice(2).map(() => 1)]);
}
