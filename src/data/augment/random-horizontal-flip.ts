import { torch, type Generator, type Tensor } from '../../torch';
import { Augmentation } from './augmentation';
import { checkNumber, drawChance } from './parameters';

/** What {@link RandomHorizontalFlip} takes. */
export interface RandomHorizontalFlipOptions {
  /** How likely an image is mirrored. Default: 0.5. */
  probability?: number;
}

/** Mirrors some of the images: `y[…, j] = x[…, W − 1 − j]`. ({@link RandomResizedCrop} can do this on the way.) */
export class RandomHorizontalFlip extends Augmentation {
  readonly probability: number;

  /** @throws InvalidArgumentError when the probability is not in [0, 1] */
  constructor(options: RandomHorizontalFlipOptions = {}) {
    super();
    const { probability = 0.5 } = options;
    checkNumber('RandomHorizontalFlip: probability', probability, 0, 1);
    this.probability = probability;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    return torch.where(drawChance(images, this.probability, generator), images.flip([3]), images);
  }
}
