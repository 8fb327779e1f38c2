/** What residual networks for small images have in common: their stages, the first convolution and the fields at the end. */
import { InvalidArgumentError, type Tensor } from '../torch';
import { integerFrom } from '../nn/checks';

/** What such a network is made from, whatever its blocks are. */
export interface ResidualStagesOptions {
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
}

/** One block: what it takes, what it gives, and by how much it shrinks the image. */
export interface PlannedBlock {
  inChannels: number;
  outChannels: number;
  stride: number;
}

/** The options with their defaults, as the shapes of convolutions and blocks. */
export interface ResidualPlan {
  stem: { inChannels: number; outChannels: number; kernelSize: number; stride: number; padding: number };
  stages: PlannedBlock[][];
  poolSize: number;
  outputSize: number;
}

/**
 * @param network its class, for errors
 * @throws InvalidArgumentError if the lists differ in length, or a number makes no sense
 * @internal
 */
export function planStages(network: string, options: ResidualStagesOptions): ResidualPlan {
  const { inChannels = 3, widths = [32, 64, 128], stemStride = 1, stemKernelSize = 3, blocksPerStage = 1 } = options;
  const { strides = widths.map((_, stage) => (stage === 0 ? 1 : 2)) } = options;
  const poolSize = integerFrom(1, options.poolSize ?? 1, `${network}: poolSize`);
  const blocks = typeof blocksPerStage === 'number' ? widths.map(() => blocksPerStage) : blocksPerStage;
  if (widths.length === 0 || strides.length !== widths.length || blocks.length !== widths.length) {
    throw new InvalidArgumentError(
      `${network}: need as many strides (${strides.length}) and blocksPerStage (${blocks.length}) as widths (${widths.length}), ` +
        'at least one',
    );
  }
  if (stemKernelSize % 2 !== 1) {
    throw new InvalidArgumentError(`${network}: stemKernelSize must be odd, found ${stemKernelSize}`);
  }
  let channels = widths[0]!;
  const stem = {
    inChannels,
    outChannels: channels,
    kernelSize: stemKernelSize,
    stride: stemStride,
    padding: (stemKernelSize - 1) / 2,
  };
  const stages = widths.map((width, stage) =>
    Array.from({ length: integerFrom(1, blocks[stage]!, `${network}: blocksPerStage`) }, (_, index) => {
      const block = { inChannels: channels, outChannels: width, stride: index === 0 ? strides[stage]! : 1 };
      channels = width;
      return block;
    }),
  );
  return { stem, stages, poolSize, outputSize: channels * poolSize ** 2 };
}

/**
 * The means of an image [N, C, H, W] over `poolSize`² fields, [N, C · poolSize²].
 *
 * @param network its class, and `input`, what it was given, for errors
 * @throws InvalidArgumentError if the image is smaller than `poolSize`
 * @internal
 */
export function pooledFields(network: string, image: Tensor, poolSize: number, input: Tensor): Tensor {
  if (poolSize === 1) return image.mean([2, 3]);
  const sides = image.shape.slice(2);
  if (poolSize > Math.min(...sides)) {
    throw new InvalidArgumentError(
      `${network}: poolSize ${poolSize} is more than the last image has, ${sides.join(' × ')} for images of ` +
        `${input.shape.slice(2).join(' × ')}; use at most ${Math.min(...sides)}, fewer stages or smaller strides`,
    );
  }
  return image.adaptiveAvgPool2d(poolSize).flatten(1);
}
