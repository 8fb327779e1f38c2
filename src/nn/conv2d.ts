import { InvalidArgumentError, torch, type DType, type Device, type Generator, type Tensor } from '../torch';
import { pair, positiveInteger, type Pair } from './checks';
import { fans, kaimingUniform_, uniform_ } from './init';
import { Module } from './module';
import { Parameter } from './parameter';

/** What a {@link Conv2d} is made from. */
export interface Conv2dOptions {
  inChannels: number;
  outChannels: number;
  /** The window's side, or height and width, in pixels. */
  kernelSize: Pair;
  /** How far the window moves. Default 1. */
  stride?: Pair;
  /** Zeros put around the image; `'same'` keeps the size (stride 1 only), `'valid'` is none. Default 0. */
  padding?: Pair | 'same' | 'valid';
  /** The distance between the window's taps. Default 1. */
  dilation?: Pair;
  /** Into how many groups the channels are split, each convolved on its own. Default 1. */
  groups?: number;
  /** Whether to add a learnt bias a channel. Default true. */
  bias?: boolean;
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
  /** Where the starting values come from. Default: the device's default generator. */
  generator?: Generator;
}

/**
 * Two-dimensional convolution (cross-correlation, as the field calls it) of images [N, inChannels, H, W]; the result is
 * [N, outChannels, H', W'] with H' = ⌊(H + 2 padding − dilation (kernel − 1) − 1) / stride⌋ + 1.
 *
 * Weight and bias start uniform on ±1/√(inChannels / groups · kernel area), as in PyTorch.
 */
export class Conv2d extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number] | 'same' | 'valid';
  readonly dilation: readonly [number, number];
  readonly groups: number;
  /** [outChannels, inChannels / groups, kernel height, kernel width]. */
  readonly weight: Parameter;
  /** [outChannels], or null. */
  readonly bias: Parameter | null;

  constructor(options: Conv2dOptions) {
    super();
    const { inChannels, outChannels, kernelSize, stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
    const { bias = true, device = 'cpu', dtype = 'float32', generator } = options;
    this.inChannels = positiveInteger(inChannels, 'Conv2d: inChannels');
    this.outChannels = positiveInteger(outChannels, 'Conv2d: outChannels');
    const kernel = pair(kernelSize, 1, 'Conv2d: kernelSize');
    this.stride = pair(stride, 1, 'Conv2d: stride');
    this.padding = typeof padding === 'string' ? padding : pair(padding, 0, 'Conv2d: padding');
    this.dilation = pair(dilation, 1, 'Conv2d: dilation');
    this.groups = positiveInteger(groups, 'Conv2d: groups');
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new InvalidArgumentError(
        `Conv2d: groups (${groups}) must divide inChannels (${inChannels}) and outChannels (${outChannels})`,
      );
    }
    if (padding === 'same' && (this.stride[0] !== 1 || this.stride[1] !== 1)) {
      throw new InvalidArgumentError(`Conv2d: padding 'same' needs stride 1, found ${this.stride.join(' x ')}`);
    }
    this.weight = new Parameter(torch.empty([outChannels, inChannels / groups, ...kernel], { device, dtype }));
    // A slope of √5 makes the Kaiming bound exactly 1/√fan-in.
    kaimingUniform_(this.weight, { slope: Math.sqrt(5), generator });
    this.bias = bias ? new Parameter(torch.empty([outChannels], { device, dtype })) : null;
    if (this.bias !== null) {
      const bound = 1 / Math.sqrt(fans(this.weight).fanIn);
      uniform_(this.bias, -bound, bound, { generator });
    }
  }

  override forward(x: Tensor): Tensor {
    return torch.conv2d(x, this.weight, this.bias, this.stride, this.padding, this.dilation, this.groups);
  }
}
