import { InvalidArgumentError } from '../torch';
import { pair, type Pair } from './checks';
import { Module } from './module';

/** The window that {@link MaxPool2d} and {@link AvgPool2d} move over images. */
export interface PoolingOptions {
  /** The window's side, or height and width, in pixels. */
  kernelSize: Pair;
  /** How far the window moves. Default: its own size, so windows do not overlap. */
  stride?: Pair;
  /** Border put around the image; at most half the window. Default 0. */
  padding?: Pair;
  /** Whether a window may reach over the far edge instead of being dropped. Default false. */
  ceilMode?: boolean;
}

/** What {@link MaxPool2d} and {@link AvgPool2d} share: the checked window. */
export abstract class Pooling extends Module {
  readonly kernelSize: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly ceilMode: boolean;

  constructor(options: PoolingOptions) {
    super();
    const { kernelSize, stride = kernelSize, padding = 0, ceilMode = false } = options;
    const layer = new.target.name;
    this.kernelSize = pair(kernelSize, 1, `${layer}: kernelSize`);
    this.stride = pair(stride, 1, `${layer}: stride`);
    this.padding = pair(padding, 0, `${layer}: padding`);
    this.ceilMode = ceilMode;
    for (const side of [0, 1] as const) {
      if (this.padding[side] * 2 > this.kernelSize[side]) {
        throw new InvalidArgumentError(
          `${layer}: padding (${this.padding.join(' x ')}) can be at most half of kernelSize (${this.kernelSize.join(' x ')})`,
        );
      }
    }
  }
}
