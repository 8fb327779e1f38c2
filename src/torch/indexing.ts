/** Parts of tensors by index. */
import { TorchIndexError } from './errors';
import { TensorHandle } from './handle';
import { ops } from './operators';
import type { Tensor } from './tensor';

/** A range of a dimension, made by {@link slice}. */
export class Slice {
  constructor(
    readonly start: number | null,
    readonly end: number | null,
    readonly step: number,
  ) {}
}

/**
 * The range from `start` up to but not including `end`, every `step`th entry; negative bounds count from the end, null means the
 * dimension's own end.
 */
export function slice(start: number | null = null, end: number | null = null, step = 1): Slice {
  return new Slice(start, end, step);
}

/** What {@link Tensor.at} takes for each dimension. */
export type IndexItem = number | Slice | Tensor | null | '...';

/** @internal */
export function indexTensor(tensor: Tensor, index: readonly IndexItem[]): Tensor {
  const { aten } = ops as unknown as Record<'aten', Record<string, (...args: unknown[]) => Tensor>>;
  const ellipses = index.filter((item) => item === '...').length;
  if (ellipses > 1) throw new TorchIndexError("an index has at most one '...'", { code: 'INDEX' });
  const taken = index.reduce<number>((sum, item) => sum + dimensionsTaken(item), 0);
  const { ndim } = tensor;
  if (taken > ndim) {
    throw new TorchIndexError(
      `an index of ${String(taken)} dimensions does not fit shape [${tensor.shape.join(', ')}]`,
      {
        code: 'INDEX',
      },
    );
  }
  let result = tensor;
  let dimension = 0;
  const advanced: (Tensor | null)[] = [];
  for (const item of index) {
    if (item === '...') {
      dimension += ndim - taken;
    } else if (item === null) {
      result = result.unsqueeze(dimension++);
    } else if (typeof item === 'number') {
      result = aten.select!(result, dimension, item);
    } else if (item instanceof Slice) {
      result = aten.slice!(result, dimension++, item.start, item.end, item.step);
    } else if (item instanceof TensorHandle) {
      while (advanced.length < dimension) advanced.push(null);
      advanced.push(item);
      dimension += dimensionsTaken(item);
    }
  }
  if (advanced.length > 0) result = aten.index!(result, advanced);
  return result === tensor ? aten.alias!(tensor) : result;
}

/** How many dimensions of the tensor an item stands for: as many as it has for a mask. */
function dimensionsTaken(item: IndexItem): number {
  if (item === null || item === '...') return 0;
  if (item instanceof TensorHandle) return item.dtype === 'bool' ? item.ndim : 1;
  return 1;
}
