import { torch, type Tensor } from '../torch';
import { numberWithin } from './checks';
import { Module } from './module';

/**
 * In training sets each element to zero with probability p and divides the others by 1 − p; in evaluation does nothing
 * (Srivastava et al. 2014). The random numbers are those of the device's default generator.
 */
export class Dropout extends Module {
  /** The probability that an element is dropped. */
  readonly p: number;

  /**
   * @param options `p` (default 0.5): the probability that an element is dropped, in [0, 1]
   */
  constructor(options: { p?: number } = {}) {
    super();
    this.p = numberWithin(0, 1, options.p ?? 0.5, 'Dropout: p');
  }

  override forward(x: Tensor): Tensor {
    return torch.dropout(x, this.p, this.training);
  }
}
