import type { Tensor } from '../torch';
import { Module } from './module';

/** x · Φ(x) with the normal distribution function Φ (Hendrycks and Gimpel 2016, "Gaussian Error Linear Units"). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';

  /**
   * @param options `approximate` (default `'none'`): `'tanh'` replaces Φ by an approximation
   */
  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    this.approximate = options.approximate ?? 'none';
  }

  override forward(x: Tensor): Tensor {
    return x.gelu({ approximate: this.approximate });
  }
}
