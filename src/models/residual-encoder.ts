import { scope, type Generator, type Tensor } from '../torch';
import { normFactory2d, WeightStandardizedConv2d, type Norm2d } from '../norm';
import { Conv2d, Module, Sequential, init } from '../nn';
import { BasicBlock } from './basic-block';
import type { Encoder } from './encoder';
import { planStages, pooledFields, type ResidualStagesOptions } from './residual-stages';

/** What a {@link ResidualEncoder} is made from. */
export interface ResidualEncoderOptions extends ResidualStagesOptions {
  /**
   * The normalisation, by name (`'group'`, `{ name: 'split', splits: 4 }`) or by a function that makes it. Default `'batch'`. For a
   * network without any there is `NFResidualEncoder`.
   */
  norm?: Norm2d;
  /** Whether the convolutions' filters are standardised: `WeightStandardizedConv2d`. Default false. */
  weightStandardized?: boolean;
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
    const { weightStandardized = false, generator } = options;
    const norm = normFactory2d(options.norm ?? 'batch');
    const { stem, stages, poolSize, outputSize } = planStages('ResidualEncoder', options);
    const Convolution = weightStandardized ? WeightStandardizedConv2d : Conv2d;
    this.conv1 = new Convolution({ ...stem, bias: false, generator });
    this.bn1 = norm(stem.outChannels);
    const made = stages.map(
      (blocks) =>
        new Sequential(...blocks.map((block) => new BasicBlock({ ...block, norm, weightStandardized, generator }))),
    );
    this.stages = new Sequential(...made);
    this.poolSize = poolSize;
    this.outputSize = outputSize;
    startConvolutions(this, generator);
  }

  /** @throws InvalidArgumentError if the last image is smaller than `poolSize` */
  override forward(x: Tensor): Tensor {
    return scope(() => {
      const stem = scope(() => this.bn1.forward(this.conv1.forward(x)).relu_());
      return pooledFields('ResidualEncoder', this.stages.forward(stem), this.poolSize, x);
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
