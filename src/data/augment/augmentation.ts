import { scope, type Generator, type Tensor } from '../../torch';
import { InvalidArgumentError } from '../../torch/errors';

/**
 * A random change of a batch of images, made of operators on the whole batch with parameters of its own for each image.
 *
 * An augmentation has settings but no state: what it does follows from the images and the generator. It runs on the images' device;
 * the parameters are drawn on the generator's device, so a CPU generator gives the same parameters for images on any
 * device.
 */
export abstract class Augmentation {
  /**
   * @param images floating point [N, C, H, W], values in [0, 1] unless an augmentation says otherwise
   * @param generator gives the parameters, and moves on
   * @returns a new tensor; the input is left as it was
   * @throws InvalidArgumentError when the images are not floating point or have no four dimensions
   */
  apply(images: Tensor, generator: Generator): Tensor {
    if (images.ndim !== 4 || !/^b?float(16|32|64)$/.test(images.dtype)) {
      const hint = images.dtype === 'uint8' ? '; convert bytes with toFloat' : '';
      throw new InvalidArgumentError(
        `${this.constructor.name} takes floating-point images [N, C, H, W], not ${images.dtype} [${images.shape.join(', ')}]${hint}.`,
      );
    }
    return scope(() => this.transform(images, generator));
  }

  /** What {@link apply} does once the input is checked; all that it does not return is freed. */
  protected abstract transform(images: Tensor, generator: Generator): Tensor;
}
