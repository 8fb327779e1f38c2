import type { Tensor } from '../torch';
import { pair, type Pair } from './checks';
import { Pooling, type PoolingOptions } from './pooling';

/** The largest value in each window of images [N, C, H, W]. */
export class MaxPool2d extends Pooling {
  readonly dilation: readonly [number, number];

  /**
   * @param options the window; `dilation` (default 1) is the distance between its taps
   */
  constructor(options: PoolingOptions & { dilation?: Pair }) {
    super(options);
    this.dilation = pair(options.dilation ?? 1, 1, 'MaxPool2d: dilation');
  }

  override forward(x: Tensor): Tensor {
    return x.maxPool2d(this.kernelSize, this.stride, this.padding, this.dilation, this.ceilMode);
  }
}
