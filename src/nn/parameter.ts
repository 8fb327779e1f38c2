import { InvalidArgumentError, Tensor, keepNew, scope } from '../torch';

/**
 * A tensor that is trained: a {@link Module} finds it among its properties, an optimiser takes no other. No scope frees it;
 * it lives until `dispose()` or until garbage collection finds it unused.
 */
export class Parameter extends Tensor {
  /**
   * @param tensor whose storage the parameter shares, outside any graph
   * @param options `requiresGrad` (default true): whether gradients flow to it
   * @throws InvalidArgumentError for integers and booleans, which have no gradient
   */
  constructor(tensor: Tensor, options: { requiresGrad?: boolean } = {}) {
    const { requiresGrad = true } = options;
    if (requiresGrad && !tensor.isFloatingPoint() && !tensor.dtype.startsWith('complex')) {
      throw new InvalidArgumentError(`a parameter needs a floating-point or complex dtype, found ${tensor.dtype}`);
    }
    super(aliasHandle(tensor));
    keepNew(this);
    if (requiresGrad) this.requiresGrad_();
  }
}

/** A new handle on a tensor's storage that belongs to nobody yet. */
function aliasHandle(tensor: Tensor): number {
  // Inside a scope no finaliser is registered for the alias, so its handle can change hands.
  return scope(() => {
    const alias = tensor.detach();
    const { handle } = alias;
    alias.handle = 0;
    return handle;
  });
}
