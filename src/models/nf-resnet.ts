import { InvalidArgumentError, scope, type Generator, type Tensor } from '../torch';
import { Module, Sequential } from '../nn';
import { integerFrom } from '../nn/checks';
import { activationGain, activationOf, type NFActivation } from '../norm/activation-gain';
import { ScaledWeightStandardizedConv2d } from '../norm/scaled-weight-standardized-conv2d';
import type { Encoder } from './encoder';
import { NFBlock } from './nf-block';
import type { ResidualEncoderOptions } from './residual-encoder';

/** What an {@link NFResidualEncoder} is made from: the options of `ResidualEncoder` but `norm`, and those of the blocks. */
export interface NFResidualEncoderOptions extends Omit<ResidualEncoderOptions, 'norm'> {
  /** α: how much of each residual branch is added. Default 0.2. */
  alpha?: number;
  /** Default `'relu'`. */
  activation?: NFActivation;
  /** Whether branches are multiplied by a learnt number that starts at 0. Default true. */
  skipInit?: boolean;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * A residual network without normalisation, sized to the task, for small images: a convolution, stages of {@link NFBlock}s, an
 * activation, and means over the image or fields of it. [N, inChannels, H, W] to [N, last width · poolSize²]. It stands in for
 * `ResidualEncoder` wherever batch statistics do harm: no sample can tell anything of another, training equals evaluation, and there
 * are no running statistics.
 *
 * Each block is told the standard deviation that its input is expected to have: 1 after the first convolution (for images of
 * unit variance), growing by α² in variance a block, back to 1 at each block whose shortcut is a convolution. `signalPropagation`
 * shows whether that holds. Train it with `adaptiveGradientClipping` where batches are large.
 *
 * Brock, De and Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets.
 */
export class NFResidualEncoder extends Module implements Encoder {
  readonly conv1: ScaledWeightStandardizedConv2d;
  readonly stages: Sequential;
  readonly activation: NFActivation;
  readonly poolSize: number;
  readonly outputSize: number;

  /** @throws InvalidArgumentError if the lists differ in length, or a number makes no sense */
  constructor(options: NFResidualEncoderOptions = {}) {
    super();
    const { inChannels = 3, widths = [32, 64, 128], stemStride = 1, stemKernelSize = 3, generator } = options;
    const { strides = widths.map((_, stage) => (stage === 0 ? 1 : 2)), blocksPerStage = 1 } = options;
    const { alpha, activation = 'relu', skipInit } = options;
    this.poolSize = integerFrom(1, options.poolSize ?? 1, 'NFResidualEncoder: poolSize');
    this.activation = activation;
    const blocks = typeof blocksPerStage === 'number' ? widths.map(() => blocksPerStage) : blocksPerStage;
    if (widths.length === 0 || strides.length !== widths.length || blocks.length !== widths.length) {
      throw new InvalidArgumentError(
        `NFResidualEncoder: need as many strides (${strides.length}) and blocksPerStage (${blocks.length}) as widths ` +
          `(${widths.length}), at least one`,
      );
    }
    if (stemKernelSize % 2 !== 1) {
      throw new InvalidArgumentError(`NFResidualEncoder: stemKernelSize must be odd, found ${stemKernelSize}`);
    }
    let channels = widths[0]!;
    this.conv1 = new ScaledWeightStandardizedConv2d({
      inChannels,
      outChannels: channels,
      kernelSize: stemKernelSize,
      stride: stemStride,
      padding: (stemKernelSize - 1) / 2,
      generator,
    });
    let beta = 1;
    const stages = widths.map((width, stage) => {
      const count = integerFrom(1, blocks[stage]!, 'NFResidualEncoder: blocksPerStage');
      return new Sequential(
        ...Array.from({ length: count }, (_, index) => {
          const stride = index === 0 ? strides[stage]! : 1;
          const shape = { inChannels: channels, outChannels: width, stride };
          const block = new NFBlock({ ...shape, beta, alpha, activation, skipInit, generator });
          channels = width;
          beta = block.expectedDeviation;
          return block;
        }),
      );
    });
    this.stages = new Sequential(...stages);
    this.outputSize = channels * this.poolSize ** 2;
  }

  /** @throws InvalidArgumentError if the last image is smaller than `poolSize` */
  override forward(x: Tensor): Tensor {
    return scope(() => {
      const image = activationOf(this.activation).apply(this.stages.forward(this.conv1.forward(x)));
      const gain = activationGain(this.activation);
      if (this.poolSize === 1) return image.mean([2, 3]).mul(gain);
      const sides = image.shape.slice(2);
      if (this.poolSize > Math.min(...sides)) {
        throw new InvalidArgumentError(
          `NFResidualEncoder: poolSize ${this.poolSize} is more than the last image has, ${sides.join(' × ')} for images of ` +
            `${x.shape.slice(2).join(' × ')}; use at most ${Math.min(...sides)}, fewer stages or smaller strides`,
        );
      }
      return image.adaptiveAvgPool2d(this.poolSize).flatten(1).mul(gain);
    });
  }
}
