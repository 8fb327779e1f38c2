import { InvalidArgumentError, scope, type Generator, type Tensor } from '../torch';
import { BatchNorm2d } from '../norm';
import { Conv2d, Module, Sequential, init } from '../nn';
import { integerFrom } from '../nn/checks';
import { BasicBlock } from './basic-block';
import type { Encoder, NormFactory } from './encoder';

/** What a {@link ResidualEncoder} is made from. */
export interface ResidualEncoderOptions {
  /** Channels of the images. Default 3. */
  inChannels?: number;
  /** Channels of each stage. Default [32, 64, 128]. */
  widths?: readonly number[];
  /** By how much each stage shrinks the image. Default 1 for the first stage and 2 for the others. */
  strides?: readonly number[];
  /** How many blocks a stage has: one number for all, or one a stage. Default 1. */
  blocksPerStage?: number | readonly number[];
  /** By how much the first convolution shrinks the image. Default 1. */
  stemStride?: number;
  /** The side of the first convolution's window; odd. Default 3. */
  stemKernelSize?: number;
  /**
   * Into how many by how many fields the last stage's image is averaged; the fields follow each other in the result. Default 1: the mean
   * over the whole image. With more, the result keeps something of where in the image a feature was. At most the last image's smaller side.
   */
  poolSize?: number;
  /** Makes the normalisation layers. Default: {@link BatchNorm2d}. */
  norm?: NormFactory;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * A residual network sized to the task, for small images: a convolution, stages of {@link BasicBlock}s, and means over the
 * image or fields of it. [N, inChannels, H, W] to [N, last width · poolSize²].
 */
export class ResidualEncoder extends Module implements Encoder {
  readonly conv1: Conv2d;
  readonly bn1: Module;
  readonly stages: Sequential;
  readonly poolSize: number;
  readonly outputSize: number;

  /** @throws InvalidArgumentError if the lists differ in length, or a number makes no sense */
  constructor(options: ResidualEncoderOptions = {}) {
    super();
    const { inChannels = 3, widths = [32, 64, 128], stemStride = 1, stemKernelSize = 3, generator } = options;
    this.poolSize = integerFrom(1, options.poolSize ?? 1, 'ResidualEncoder: poolSize');
    const { strides = widths.map((_, stage) => (stage === 0 ? 1 : 2)), blocksPerStage = 1 } = options;
    const { norm = (features: number) => new BatchNorm2d({ features }) } = options;
    const blocks = typeof blocksPerStage === 'number' ? widths.map(() => blocksPerStage) : blocksPerStage;
    if (widths.length === 0 || strides.length !== widths.length || blocks.length !== widths.length) {
      throw new InvalidArgumentError(
        `ResidualEncoder: need as many strides (${strides.length}) and blocksPerStage (${blocks.length}) as widths (${widths.length}), at least one`,
      );
    }
    if (stemKernelSize % 2 !== 1) {
      throw new InvalidArgumentError(`ResidualEncoder: stemKernelSize must be odd, found ${stemKernelSize}`);
    }
    let channels = widths[0]!;
    this.conv1 = new Conv2d({
      inChannels,
      outChannels: channels,
      kernelSize: stemKernelSize,
      stride: stemStride,
      padding: (stemKernelSize - 1) / 2,
      bias: false,
      generator,
    });
    this.bn1 = norm(channels);
    const stages = widths.map((width, stage) => {
      const count = integerFrom(1, blocks[stage]!, 'ResidualEncoder: blocksPerStage');
      return new Sequential(
        ...Array.from({ length: count }, (_, index) => {
          const stride = index === 0 ? strides[stage]! : 1;
          const block = new BasicBlock({ inChannels: channels, outChannels: width, stride, norm, generator });
          channels = width;
          return block;
        }),
      );
    });
    this.stages = new Sequential(...stages);
    this.outputSize = channels * this.poolSize ** 2;
    startConvolutions(this, generator);
  }

  /** @throws InvalidArgumentError if the last image is smaller than `poolSize` */
  override forward(x: Tensor): Tensor {
    return scope(() => {
      const stem = scope(() => this.bn1.forward(this.conv1.forward(x)).relu_());
      const image = this.stages.forward(stem);
      if (this.poolSize === 1) return image.mean([2, 3]);
      const sides = image.shape.slice(2);
      if (this.poolSize > Math.min(...sides)) {
        throw new InvalidArgumentError(
          `ResidualEncoder: poolSize ${this.poolSize} is more than the last image has, ${sides.join(' × ')} for images of ` +
            `${x.shape.slice(2).join(' × ')}; use at most ${Math.min(...sides)}, fewer stages or smaller strides`,
        );
      }
      return image.adaptiveAvgPool2d(this.poolSize).flatten(1);
    });
  }
}

/** Gives all convolutions the starting values that residual networks use: Kaiming normal by fan-out. */
export function startConvolutions(module: Module, generator?: Generator): void {
  for (const part of module.modules()) {
    if (part instanceof Conv2d) {
      init.kaimingNormal_(part.weight, { mode: 'fan_out', nonlinearity: 'relu', generator });
    }
  }
}
