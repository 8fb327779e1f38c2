/** What several objectives need: checks, widths, reductions. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { defineLink } from '../link';
import { checkEmbeddings } from '../similarity';

/** `'mean'` and `'sum'` over the samples, or `'none'` for one loss a sample. */
export type Reduction = 'mean' | 'sum' | 'none';

/** log Σ exp(s) over what is no positive: half a loss. −∞ over nothing. */
export const partitionLink = defineLink({
  name: 'log partition',
  needs: { all: { kind: 'logSumExp', over: 'negatives' } },
  loss: ({ all }) => all,
  withoutPositives: true,
});

/** 0 … count − 1, int64, where `like` is. */
export function positionsOf(count: number, like: Tensor): Tensor {
  return torch.arange(count, { dtype: 'int64', device: like.device });
}

/** The losses, reduced. */
export function reduced(losses: Tensor, reduction: Reduction = 'mean'): Tensor {
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? losses.sum() : losses.mean();
}

/** The tensors in float32, or in float64 if one of them is, so that none is computed in a shorter type. */
export function widened<Tensors extends readonly Tensor[]>(...tensors: Tensors): { [K in keyof Tensors]: Tensor } {
  const dtype = tensors.some((x) => x.dtype === 'float64') ? 'float64' : 'float32';
  return tensors.map((x) => x.to({ dtype })) as { [K in keyof Tensors]: Tensor };
}

/**
 * Checks two matrices of embeddings, row i of one beside row i of the other, on one device.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function checkPaired(first: Tensor, second: Tensor, what: string, names = ['first', 'second']): void {
  checkEmbeddings(first, `${what}: ${names[0]!}`);
  checkEmbeddings(second, `${what}: ${names[1]!}`, first.sizeOf(1), first.sizeOf(0));
  checkDevice(second, first, `${what}: ${names[1]!}`);
}

/** @throws InvalidArgumentError naming `what` unless the tensor is where `like` is */
export function checkDevice(tensor: Tensor, like: Tensor, what: string): void {
  if (tensor.device !== like.device) {
    throw new InvalidArgumentError(`${what} is on ${tensor.device}, the other tensors are on ${like.device}; move one`);
  }
}

/**
 * Checks a vector of whole numbers, one a sample.
 *
 * @throws InvalidArgumentError naming `what` unless it is int64 [count], where `like` is
 */
export function checkIds(ids: Tensor, count: number, what: string, like: Tensor): void {
  if (ids.dtype !== 'int64') throw new InvalidArgumentError(`${what} must be int64, found ${ids.dtype}`);
  checkShape(ids, [count], what);
  checkDevice(ids, like, what);
}

/** @throws InvalidArgumentError naming `what` unless the tensor has the shape */
export function checkShape(tensor: Tensor, shape: readonly number[], what: string): void {
  if (tensor.shape.join() !== shape.join()) {
    throw new InvalidArgumentError(`${what}: expected shape [${shape.join(', ')}], found [${tensor.shape.join(', ')}]`);
  }
}

/** @throws InvalidArgumentError naming `what` unless the number lies in [low, high], or in (low, high] with `above` */
export function checkNumber(
  value: number,
  what: string,
  { low = 0, high = Infinity, above = false }: { low?: number; high?: number; above?: boolean } = {},
): void {
  const fits = Number.isFinite(value) && (above ? value > low : value >= low) && value <= high;
  if (fits) return;
  const least = above ? `above ${String(low)}` : `at least ${String(low)}`;
  const most = high === Infinity ? '' : ` and at most ${String(high)}`;
  throw new InvalidArgumentError(`${what} must be a number ${least}${most}, found ${String(value)}`);
}

/**
 * Checks a temperature that is a number or a tensor of one element.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function checkTemperature(temperature: number | Tensor, what: string): void {
  if (typeof temperature === 'number') checkNumber(temperature, `${what}: temperature`, { above: true });
  else if (temperature.numel() !== 1) {
    throw new InvalidArgumentError(
      `${what}: temperature must be a number or a tensor of one element, found shape [${temperature.shape.join(', ')}]`,
    );
  }
}
