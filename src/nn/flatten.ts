import type { Tensor } from '../torch';
import { Module } from './module';

/** Joins neighbouring dimensions into one: [N, C, H, W] becomes [N, C · H · W]. */
export class Flatten extends Module {
  readonly startDim: number;
  readonly endDim: number;

  /**
   * @param options the first (default 1) and the last (default −1) of the dimensions to join
   */
  constructor(options: { startDim?: number; endDim?: number } = {}) {
    super();
    this.startDim = options.startDim ?? 1;
    this.endDim = options.endDim ?? -1;
  }

  override forward(x: Tensor): Tensor {
    return x.flatten(this.startDim, this.endDim);
  }
}
