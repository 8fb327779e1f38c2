import { scope, type Generator, type Tensor } from '../torch';
import { Module, Sequential } from '../nn';
import { activationGain, activationOf, type NFActivation } from '../norm/activation-gain';
import { ScaledWeightStandardizedConv2d } from '../norm/scaled-weight-standardized-conv2d';
import type { Encoder } from './encoder';
import { NFBlock } from './nf-block';
import { planStages, pooledFields, type ResidualStagesOptions } from './residual-stages';

/** What an {@link NFResidualEncoder} is made from: the shapes, as for `ResidualEncoder`, and the options of the blocks. */
export interface NFResidualEncoderOptions extends ResidualStagesOptions {
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
    const { alpha, activation = 'relu', skipInit, generator } = options;
    const { stem, stages, poolSize, outputSize } = planStages('NFResidualEncoder', options);
    this.activation = activation;
    this.conv1 = new ScaledWeightStandardizedConv2d({ ...stem, generator });
    let beta = 1;
    const made = stages.map(
      (blocks) =>
        new Sequential(
          ...blocks.map((shape) => {
            const block = new NFBlock({ ...shape, beta, alpha, activation, skipInit, generator });
            beta = block.expectedDeviation;
            return block;
          }),
        ),
    );
    this.stages = new Sequential(...made);
    this.poolSize = poolSize;
    this.outputSize = outputSize;
  }

  /** @throws InvalidArgumentError if the last image is smaller than `poolSize` */
  override forward(x: Tensor): Tensor {
    return scope(() => {
      const image = activationOf(this.activation).apply(this.stages.forward(this.conv1.forward(x)));
      return pooledFields('NFResidualEncoder', image, this.poolSize, x).mul(activationGain(this.activation));
    });
  }
}
