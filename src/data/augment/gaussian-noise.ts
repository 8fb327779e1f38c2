import type { Generator, Tensor } from '../../torch';
import { Augmentation } from './augmentation';
import { checkRange, drawNormal, drawUniform, type Range } from './parameters';

/** What {@link GaussianNoise} takes. */
export interface GaussianNoiseOptions {
  /** The noise's standard deviation σ, in units of the pixels' values, from 0. Default: [0, 0.1]. */
  sigma?: Range;
  /** Whether the result is cut to [0, 1]. Default: false. */
  clamp?: boolean;
}

/** Adds normal noise, independent for each value, of a strength of its own for each image: `y = x + σ·ε`, `ε ~ N(0, 1)`. */
export class GaussianNoise extends Augmentation {
  readonly sigma: Range;
  readonly clamp: boolean;

  /** @throws InvalidArgumentError when σ is negative or not finite */
  constructor(options: GaussianNoiseOptions = {}) {
    super();
    const { sigma = [0, 0.1], clamp = false } = options;
    checkRange('GaussianNoise: sigma', sigma, 0, Number.MAX_VALUE);
    this.sigma = sigma;
    this.clamp = clamp;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    const sigma = drawUniform(images, this.sigma, generator);
    const noisy = drawNormal(images, generator).mul_(sigma).add_(images);
    return this.clamp ? noisy.clamp_(0, 1) : noisy;
  }
}
