import { scope, type Generator, type Tensor } from '../torch';
import { Conv2d, Module, Sequential } from '../nn';
import type { NormFactory } from './encoder';

/** What a {@link BasicBlock} is made from. */
export interface BasicBlockOptions {
  inChannels: number;
  outChannels: number;
  /** Of the first convolution and of the shortcut. Default 1. */
  stride?: number;
  /** Makes the normalisation layers. */
  norm: NormFactory;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * Two 3×3 convolutions around a shortcut, the block of the smaller residual networks (He et al. 2016): images
 * [N, inChannels, H, W] to [N, outChannels, H / stride, W / stride]. The shortcut is a 1×1 convolution where the shape changes.
 */
export class BasicBlock extends Module {
  readonly conv1: Conv2d;
  readonly bn1: Module;
  readonly conv2: Conv2d;
  readonly bn2: Module;
  readonly downsample: Sequential | null;

  constructor(options: BasicBlockOptions) {
    super();
    const { inChannels, outChannels, stride = 1, norm, generator } = options;
    const conv = (from: number, kernelSize: number, by: number) =>
      new Conv2d({
        inChannels: from,
        outChannels,
        kernelSize,
        stride: by,
        padding: (kernelSize - 1) / 2,
        bias: false,
        generator,
      });
    this.conv1 = conv(inChannels, 3, stride);
    this.bn1 = norm(outChannels);
    this.conv2 = conv(outChannels, 3, 1);
    this.bn2 = norm(outChannels);
    const changesShape = stride !== 1 || inChannels !== outChannels;
    this.downsample = changesShape ? new Sequential(conv(inChannels, 1, stride), norm(outChannels)) : null;
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      const inner = this.bn1.forward(this.conv1.forward(x)).relu_();
      const outer = this.bn2.forward(this.conv2.forward(inner));
      return outer.add_(this.downsample === null ? x : this.downsample.forward(x)).relu_();
    });
  }
}
