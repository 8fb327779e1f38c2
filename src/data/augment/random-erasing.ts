import { torch, type Generator, type Tensor } from '../../torch';
import { InvalidArgumentError } from '../../torch/errors';
import { Augmentation } from './augmentation';
import {
  checkNumber,
  checkPositiveRange,
  checkRange,
  drawChance,
  drawLogUniform,
  drawUniform,
  type Range,
} from './parameters';

/** What {@link RandomErasing} takes. */
export interface RandomErasingOptions {
  /** How likely an image loses a rectangle. Default: 0.5. */
  probability?: number;
  /** The rectangle's share of the image's area, within (0, 1]. Default: [0.02, 0.33]. */
  scale?: Range;
  /** The rectangle's height divided by its width, in pixels. Default: [0.3, 1/0.3]. */
  ratio?: Range;
  /** What the rectangle is filled with. Default: 0. */
  value?: number;
}

/**
 * Fills a random rectangle of some of the images with one value (Zhong et al., 2017, "Random Erasing Data Augmentation").
 *
 * Area `s ~ U(scale)` and `log r ~ U(log ratio)` give the sides, each cut off at the image's; the place is uniform where the
 * rectangle stays inside. A pixel is erased when its centre lies in the rectangle.
 */
export class RandomErasing extends Augmentation {
  readonly probability: number;
  readonly scale: Range;
  readonly ratio: Range;
  readonly value: number;

  /** @throws InvalidArgumentError naming the setting that is out of its range */
  constructor(options: RandomErasingOptions = {}) {
    super();
    const { probability = 0.5, scale = [0.02, 0.33], ratio = [0.3, 1 / 0.3], value = 0 } = options;
    checkNumber('RandomErasing: probability', probability, 0, 1);
    checkPositiveRange('RandomErasing: scale', scale);
    checkRange('RandomErasing: scale', scale, 0, 1);
    checkPositiveRange('RandomErasing: ratio', ratio);
    if (!Number.isFinite(value)) throw new InvalidArgumentError(`RandomErasing: value must be finite, not ${value}.`);
    this.probability = probability;
    this.scale = scale;
    this.ratio = ratio;
    this.value = value;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    const [, , height, width] = images.shape;
    const area = drawUniform(images, this.scale, generator).mul_(height * width);
    const ratio = drawLogUniform(images, this.ratio, generator);
    const inRows = inside(height, area.mul(ratio).sqrt_(), images, generator).unsqueeze(3);
    const inColumns = inside(width, area.div(ratio).sqrt_(), images, generator).unsqueeze(2);
    const chosen = drawChance(images, this.probability, generator);
    return images.maskedFill(inRows.logicalAnd_(chosen).logicalAnd(inColumns), this.value);
  }
}

/** Which pixels along one side lie in an interval of the given length [N, 1, 1, 1] at a random place: bool [N, 1, side]. */
function inside(side: number, length: Tensor, images: Tensor, generator: Generator): Tensor {
  const extent = length.clampMax(side);
  const start = extent
    .neg()
    .add_(side)
    .mul_(drawUniform(images, [0, 1], generator))
    .squeeze(3);
  const end = start.add(extent.squeeze(3));
  const centres = torch.arange(side, { dtype: images.dtype, device: images.device }).add_(0.5);
  return centres.ge(start).logicalAnd_(centres.lt(end));
}
