/** Functions that add something over the operators themselves; for everything else use the tensor's methods. */
import type { Tensor } from '../torch';

/** What {@link normalize} takes. */
export interface NormalizeOptions {
  /** The order p of the norm. Default 2. */
  p?: number;
  /** The dimension along which the norm is taken. Default −1: one vector a row. */
  dim?: number;
  /** The smallest divisor, so that a zero vector stays zero. Default 1e-12. */
  eps?: number;
}

/**
 * Scales vectors to length one: x / max(‖x‖ₚ, eps).
 *
 * @param x of any shape and a floating-point dtype
 * @returns of the shape and dtype of `x`
 */
export function normalize(x: Tensor, options: NormalizeOptions = {}): Tensor {
  const { p = 2, dim = -1, eps = 1e-12 } = options;
  const length = x.linalgVectorNorm(p, [dim], true).clampMin(eps);
  return x.div(length);
}
