import type { Generator, Tensor } from '../../torch';
import { Augmentation } from './augmentation';
import { checkNumber, drawUniform } from './parameters';

/** What {@link BrightnessContrast} takes. */
export interface BrightnessContrastOptions {
  /** The factor b is uniform in [max(0, 1 − brightness), 1 + brightness]. Default: 0, which changes nothing. */
  brightness?: number;
  /** The factor c is uniform in [max(0, 1 − contrast), 1 + contrast]. Default: 0, which changes nothing. */
  contrast?: number;
  /** Whether the result is cut to [0, 1]. Default: true. */
  clamp?: boolean;
}

/**
 * Makes images darker or brighter, and their contrast weaker or stronger: with `z = b·x`,
 * `y = c·(z − mean(z)) + mean(z)`, the mean being over the image's channels and pixels.
 *
 * Both are one multiplication and one addition a pixel, as `y = (b·c)·x + b·(1 − c)·mean(x)`. What lies above 1 after the brightness is
 * cut off only at the end, and the mean is over all channels; torchvision's ColorJitter cuts in between as well, and takes the mean
 * of the grey values.
 */
export class BrightnessContrast extends Augmentation {
  readonly brightness: number;
  readonly contrast: number;
  readonly clamp: boolean;

  /** @throws InvalidArgumentError when the brightness or contrast is negative or not finite */
  constructor(options: BrightnessContrastOptions = {}) {
    super();
    const { brightness = 0, contrast = 0, clamp = true } = options;
    checkNumber('BrightnessContrast: brightness', brightness, 0, Number.MAX_VALUE);
    checkNumber('BrightnessContrast: contrast', contrast, 0, Number.MAX_VALUE);
    this.brightness = brightness;
    this.contrast = contrast;
    this.clamp = clamp;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    const b = drawUniform(images, factorRange(this.brightness), generator);
    const c = drawUniform(images, factorRange(this.contrast), generator);
    const offset = images.mean([1, 2, 3], true).mul_(b).mul_(c.neg().add_(1));
    const changed = images.mul(b.mul_(c)).add_(offset);
    return this.clamp ? changed.clamp_(0, 1) : changed;
  }
}

function factorRange(strength: number): [number, number] {
  return [Math.max(0, 1 - strength), 1 + strength];
}
