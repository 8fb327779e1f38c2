import type { Tensor } from '../torch';
import { Pooling, type PoolingOptions } from './pooling';

/** The mean of each window of images [N, C, H, W]. */
export class AvgPool2d extends Pooling {
  readonly countIncludePad: boolean;

  /**
   * @param options the window; `countIncludePad` (default true) counts the border's zeros as pixels
   */
  constructor(options: PoolingOptions & { countIncludePad?: boolean }) {
    super(options);
    this.countIncludePad = options.countIncludePad ?? true;
  }

  override forward(x: Tensor): Tensor {
    return x.avgPool2d(this.kernelSize, this.stride, this.padding, this.ceilMode, this.countIncludePad);
  }
}
