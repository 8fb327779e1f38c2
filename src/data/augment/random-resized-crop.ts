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

/** What {@link RandomResizedCrop} takes. */
export interface RandomResizedCropOptions {
  /** The crop's share of the image's area, within (0, 1]. Default: [0.08, 1], as in Szegedy et al. */
  scale?: Range;
  /** The crop's width divided by its height, in pixels. Default: [3/4, 4/3]. */
  ratio?: Range;
  /** How likely the crop is mirrored left to right. Default: 0. */
  flipProbability?: number;
  /** The crop is turned by an angle uniform in ± this many degrees, within [0, 180]. Default: 0. */
  rotation?: number;
  /** The result's height and width in pixels. Default: the input's. */
  size?: readonly [height: number, width: number];
  /** What lies outside the image: its nearest pixel or 0. A crop lies inside unless it is turned. Default: `'border'`. */
  padding?: 'border' | 'zeros';
}

/** The code numbers of `grid_sampler`. */
const bilinear = 0;
const paddingModes = { zeros: 0, border: 1 };

/**
 * Cuts a random rectangle out of each image and resizes it, in one bilinear resampling that also does the mirroring and turning
 * (Szegedy et al., 2015, "Going deeper with convolutions").
 *
 * For an image of H × W pixels: area `s ~ U(scale)`, `log r ~ U(log ratio)`, width `w = min(1, √(s·r·H/W))` and height
 * `h = min(1, √(s·W/(r·H)))` as shares of the image, and a centre uniform where the upright crop stays inside. A ratio that does not
 * fit is cut off at the image's side, where torchvision draws again up to ten times. There is no low-pass filter, so a `size` far below
 * the crop's aliases.
 */
export class RandomResizedCrop extends Augmentation {
  readonly scale: Range;
  readonly ratio: Range;
  readonly flipProbability: number;
  readonly rotation: number;
  readonly size: readonly [number, number] | undefined;
  readonly padding: 'border' | 'zeros';

  /** @throws InvalidArgumentError naming the setting that is out of its range */
  constructor(options: RandomResizedCropOptions = {}) {
    super();
    const {
      scale = [0.08, 1],
      ratio = [3 / 4, 4 / 3],
      flipProbability = 0,
      rotation = 0,
      size,
      padding = 'border',
    } = options;
    checkPositiveRange('RandomResizedCrop: scale', scale);
    checkRange('RandomResizedCrop: scale', scale, 0, 1);
    checkPositiveRange('RandomResizedCrop: ratio', ratio);
    checkNumber('RandomResizedCrop: flipProbability', flipProbability, 0, 1);
    checkNumber('RandomResizedCrop: rotation', rotation, 0, 180);
    if (size && !(size.length === 2 && size.every((side) => Number.isSafeInteger(side) && side > 0))) {
      throw new InvalidArgumentError(
        `RandomResizedCrop: size must be [height, width] in pixels, not [${size.join(', ')}].`,
      );
    }
    if (!Object.hasOwn(paddingModes, padding)) {
      throw new InvalidArgumentError(
        `RandomResizedCrop: padding must be 'border' or 'zeros', not '${String(padding)}'.`,
      );
    }
    this.scale = scale;
    this.ratio = ratio;
    this.flipProbability = flipProbability;
    this.rotation = rotation;
    this.size = size;
    this.padding = padding;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    const [, , height, width] = images.shape;
    const area = drawUniform(images, this.scale, generator);
    const ratio = drawLogUniform(images, this.ratio, generator);
    const cropWidth = area
      .mul(ratio)
      .mul_(height / width)
      .sqrt_()
      .clampMax_(1);
    const cropHeight = area
      .div(ratio)
      .mul_(width / height)
      .sqrt_()
      .clampMax_(1);
    // With the image spanning [−1, 1], a centre is uniform in ± (1 − side).
    const centreX = drawUniform(images, [-1, 1], generator).mul_(cropWidth.neg().add_(1));
    const centreY = drawUniform(images, [-1, 1], generator).mul_(cropHeight.neg().add_(1));
    // 1 or −1: whether the crop is read from left to right or from right to left.
    const direction = drawChance(images, this.flipProbability, generator).to(images.dtype).mul_(-2).add_(1);
    const across = { extent: cropWidth.mul_(direction), centre: centreX };
    const down = { extent: cropHeight, centre: centreY };
    if (this.rotation === 0) return this.resampleUpright(images, across, down);
    const angle = drawUniform(images, [-this.rotation, this.rotation], generator).mul_(Math.PI / 180);
    return this.resampleTurned(images, across, down, angle);
  }

  /**
   * Without a turn, bilinear resampling does rows and columns apart: two matrix products with two weights in each row. That is
   * faster than reading pixel by pixel for the image sizes of contrastive learning.
   */
  private resampleUpright(images: Tensor, across: Interval, down: Interval): Tensor {
    const [, , height, width] = images.shape;
    const [outHeight, outWidth] = this.size ?? [height, width];
    const rows = this.interpolationWeights(down, height, outHeight);
    const columns = this.interpolationWeights(across, width, outWidth);
    return rows.matmul(images).matmul(columns.transpose(2, 3));
  }

  /** [N, 1, outSide, side]: how much of pixel j goes into pixel i of the result, `max(0, 1 − |xᵢ − j|)` for the place xᵢ it is read at. */
  private interpolationWeights(interval: Interval, side: number, outSide: number): Tensor {
    const { dtype, device } = interval.extent;
    // In pixels whose centres are whole numbers: the interval's centre, and how far from it each pixel of the result lies.
    const centre = interval.centre
      .add(1)
      .mul_(side / 2)
      .sub_(0.5);
    const share = torch.arange(outSide, { dtype, device }).add_(0.5).div_(outSide).sub_(0.5).unsqueeze(1);
    const place = share.mul(interval.extent.mul(side)).add_(centre);
    // Beyond the border the nearest pixel counts whole; without the clamp its weight falls to 0, which is padding with zeros.
    if (this.padding === 'border') place.clamp_(0, side - 1);
    return place.sub(torch.arange(side, { dtype, device })).abs_().neg_().add_(1).clampMin_(0);
  }

  private resampleTurned(images: Tensor, across: Interval, down: Interval, angle: Tensor): Tensor {
    const [count, channels, height, width] = images.shape;
    const [outHeight, outWidth] = this.size ?? [height, width];
    const cosine = angle.cos();
    const sine = angle.sin();
    // The affine map from the result's coordinates to the image's; a turn mixes the axes in pixels, not in shares of the sides.
    const theta = torch
      .cat(
        [
          across.extent.mul(cosine),
          down.extent.mul(sine).mul_(-height / width),
          across.centre,
          across.extent.mul(sine).mul_(width / height),
          down.extent.mul(cosine),
          down.centre,
        ],
        1,
      )
      .view([count, 2, 3]);
    const grid = torch.affineGridGenerator(theta, [count, channels, outHeight, outWidth], false);
    return torch.gridSampler(images, grid, bilinear, paddingModes[this.padding], false);
  }
}

/** Part of an axis for each image, [N, 1, 1, 1], where the image spans [−1, 1]: centre, and length as a share of the image, negative if mirrored. */
interface Interval {
  extent: Tensor;
  centre: Tensor;
}
