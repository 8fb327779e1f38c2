import { scope, type DType, type Tensor } from '../../torch';
import { InvalidArgumentError } from '../../torch/errors';

/**
 * Bytes as floating-point numbers in [0, 1]: `x / 255`.
 *
 * @param images uint8 of any shape
 * @param dtype of the result; default `'float32'`
 * @throws InvalidArgumentError when the images are not uint8
 */
export function toFloat(images: Tensor, dtype: DType = 'float32'): Tensor {
  if (images.dtype !== 'uint8') {
    throw new InvalidArgumentError(`toFloat takes uint8 images, not ${images.dtype}.`);
  }
  return scope(() => images.to(dtype).div_(255));
}
