import { InvalidArgumentError, scope, type Tensor } from '../torch';

/**
 * Normalises the positions that hold something and leaves padding as it is: `norm` gets the valid positions as the rows of one batch,
 * so padding enters neither their statistics, nor running ones, nor gradients of parameters. What layer norm has no need of, norms of the
 * batch's kind and {@link PowerNorm} have in sequences of unequal length; PowerNorm's authors mask so.
 *
 * ```ts
 * const y = withoutPadding(x, valid, (rows) => norm.forward(rows));
 * ```
 *
 * Which rows there are is waited for, on other devices than the CPU.
 *
 * @param x [N, L, C], or [..., C] with any dimensions before the channels
 * @param valid bool, the shape of `x` without the channels: true where there is no padding
 * @param norm gives [V, C], given the V valid positions [V, C] in the order of memory
 * @returns the shape of `x`, in the dtype that `norm` gives
 * @throws InvalidArgumentError if `valid` has another shape or dtype or is nowhere true, or `norm` gives another shape
 *
 * Shen, Yao, Gholami, Mahoney and Keutzer 2020, PowerNorm: Rethinking Batch Normalization in Transformers, whose code has the mask.
 */
export function withoutPadding(x: Tensor, valid: Tensor, norm: (rows: Tensor) => Tensor): Tensor {
  const positions = x.shape.slice(0, -1);
  if (x.ndim < 2 || valid.dtype !== 'bool' || valid.shape.join() !== positions.join()) {
    throw new InvalidArgumentError(
      `withoutPadding: expected x [..., C] and valid [...] of bool, found [${x.shape.join(', ')}] and ` +
        `[${valid.shape.join(', ')}] of ${valid.dtype}`,
    );
  }
  return scope(() => {
    const rows = x.reshape([-1, x.sizeOf(-1)]);
    const places = valid.reshape([-1]).nonzero().squeeze(1);
    if (places.numel() === 0) throw new InvalidArgumentError('withoutPadding: there is nothing but padding');
    const chosen = rows.indexSelect(0, places);
    const normalized = norm(chosen);
    if (normalized.shape.join() !== chosen.shape.join()) {
      throw new InvalidArgumentError(
        `withoutPadding: norm gave [${normalized.shape.join(', ')}] for [${chosen.shape.join(', ')}]`,
      );
    }
    return rows
      .to({ dtype: normalized.dtype })
      .indexCopy(0, places, normalized)
      .view([...x.shape]);
  });
}
