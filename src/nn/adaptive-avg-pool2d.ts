import type { Tensor } from '../torch';
import { pair, type Pair } from './checks';
import { Module } from './module';

/** Means over as many windows as are needed to give images [N, C, H, W] the size asked for. */
export class AdaptiveAvgPool2d extends Module {
  readonly outputSize: readonly [number, number];

  /**
   * @param options `outputSize` in pixels (default 1: the mean of the whole image)
   */
  constructor(options: { outputSize?: Pair } = {}) {
    super();
    this.outputSize = pair(options.outputSize ?? 1, 1, 'AdaptiveAvgPool2d: outputSize');
  }

  override forward(x: Tensor): Tensor {
    return x.adaptiveAvgPool2d(this.outputSize);
  }
}
