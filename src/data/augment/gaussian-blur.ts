import { torch, type Generator, type Tensor } from '../../torch';
import { Augmentation } from './augmentation';
import { checkNumber, checkPositiveRange, drawChance, drawUniform, type Range } from './parameters';

/** What {@link GaussianBlur} takes. */
export interface GaussianBlurOptions {
  /** The standard deviation σ in pixels, above 0. Default: [0.1, 2], as in SimCLR. */
  sigma?: Range;
  /** How likely an image is blurred. Default: 0.5. */
  probability?: number;
}

/** So narrow a Gaussian that its neighbours' weights are 0 in float32 and float64: the identity. */
const noBlur = 0.01;

/**
 * Blurs some of the images with a Gaussian of a random width: each pixel becomes the mean of its row (then its column) with the weights
 * `exp(−d² / 2σ²)` by distance d, divided by their sum, so a flat image stays as it is right up to its border.
 *
 * Both passes are matrix products with the [W, W] and [H, H] matrices of those weights: the whole Gaussian and not a window of it, and
 * for the small images of contrastive learning faster than a convolution with a kernel of its own for each image. (Chen et al.,
 * 2020, "A Simple Framework for Contrastive Learning of Visual Representations", appendix A.)
 */
export class GaussianBlur extends Augmentation {
  readonly sigma: Range;
  readonly probability: number;

  /** @throws InvalidArgumentError when σ is not above 0 or the probability is not in [0, 1] */
  constructor(options: GaussianBlurOptions = {}) {
    super();
    const { sigma = [0.1, 2], probability = 0.5 } = options;
    checkPositiveRange('GaussianBlur: sigma', sigma);
    checkNumber('GaussianBlur: probability', probability, 0, 1);
    this.sigma = sigma;
    this.probability = probability;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    const [, , height, width] = images.shape;
    const drawn = drawUniform(images, this.sigma, generator);
    const sigma = torch.where(drawChance(images, this.probability, generator), drawn, torch.fullLike(drawn, noBlur));
    const rows = weights(height, sigma);
    const columns = height === width ? rows : weights(width, sigma);
    return rows.matmul(images).matmul(columns.transpose(2, 3));
  }
}

/** [N, 1, side, side]: row i holds the weights of the pixels that make up pixel i. In float32 at least, as exponents reach 10⁴. */
function weights(side: number, sigma: Tensor): Tensor {
  const dtype = sigma.dtype === 'float64' ? 'float64' : 'float32';
  const position = torch.arange(side, { dtype, device: sigma.device });
  const distance = position.unsqueeze(1).sub(position).square_();
  return distance.div(sigma.to(dtype).square().mul_(-2)).softmax(3).to(sigma.dtype);
}
