import { scope, type Generator, type Tensor } from '../torch';
import { normFactory2d, WeightStandardizedConv2d, type Norm2d } from '../norm';
import { Conv2d, Module, Sequential } from '../nn';

/** What a {@link BasicBlock} is made from. */
export interface BasicBlockOptions {
  inChannels: number;
  outChannels: number;
  /** Of the first convolution and of the shortcut. Default 1. */
  stride?: number;
  /** The normalisation, by name or by a function that makes it. Default `'batch'`. */
  norm?: Norm2d;
  /** Whether the convolutions' filters are standardised: {@link WeightStandardizedConv2d}. Default false. */
  weightStandardized?: boolean;
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
    const { inChannels, outChannels, stride = 1, weightStandardized = false, generator } = options;
    const norm = normFactory2d(options.norm ?? 'batch');
    const Convolution = weightStandardized ? WeightStandardizedConv2d : Conv2d;
    const conv = (from: number, kernelSize: number, by: number) =>
      new Convolution({
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
