/** What the augmentations share: drawing a parameter for each image, and checking the ranges to draw from. */
import { torch, type Generator, type Tensor } from '../../torch';
import { InvalidArgumentError } from '../../torch/errors';

/** The lowest and the highest value of a uniform distribution. */
export type Range = readonly [low: number, high: number];

/** One value a image, uniform in `range`: [N, 1, 1, 1], of the images' dtype and on their device. */
export function drawUniform(images: Tensor, range: Range, generator: Generator): Tensor {
  const [low, high] = range;
  return toLike(
    drawUnit(images, generator)
      .mul_(high - low)
      .add_(low),
    images,
  );
}

/** One value a image, its logarithm uniform in the logarithms of `range`: [N, 1, 1, 1]. */
export function drawLogUniform(images: Tensor, range: Range, generator: Generator): Tensor {
  const [low, high] = range.map(Math.log);
  return toLike(
    drawUnit(images, generator)
      .mul_(high - low)
      .add_(low)
      .exp_(),
    images,
  );
}

/** For each image true with the given probability: bool [N, 1, 1, 1]. */
export function drawChance(images: Tensor, probability: number, generator: Generator): Tensor {
  return drawUnit(images, generator).lt(probability).to(images.device);
}

/** Standard normal numbers of the images' shape, dtype and device. */
export function drawNormal(images: Tensor, generator: Generator): Tensor {
  return toLike(torch.randn([...images.shape], { generator, device: generator.device }), images);
}

/** Uniform in [0, 1), always float32 so that the draw does not depend on the images' dtype. */
function drawUnit(images: Tensor, generator: Generator): Tensor {
  return torch.rand([images.shape[0], 1, 1, 1], { generator, device: generator.device, dtype: 'float32' });
}

function toLike(values: Tensor, images: Tensor): Tensor {
  return values.to({ device: images.device, dtype: images.dtype });
}

/** @throws InvalidArgumentError unless `low ≤ range[0] ≤ range[1] ≤ high` */
export function checkRange(name: string, range: Range, low: number, high: number): void {
  // Written so that NaN fails too.
  if (!(range.length === 2 && low <= range[0] && range[0] <= range[1] && range[1] <= high)) {
    throw new InvalidArgumentError(
      `${name} must be [low, high] with ${low} ≤ low ≤ high ≤ ${high}, not [${Array.from(range).join(', ')}].`,
    );
  }
}

/** @throws InvalidArgumentError unless `range[0] ≤ range[1]` are finite and above 0 */
export function checkPositiveRange(name: string, range: Range): void {
  if (!(range.length === 2 && 0 < range[0] && range[0] <= range[1] && range[1] < Infinity)) {
    throw new InvalidArgumentError(
      `${name} must be [low, high] with 0 < low ≤ high, not [${Array.from(range).join(', ')}].`,
    );
  }
}

/** @throws InvalidArgumentError unless `low ≤ value ≤ high` */
export function checkNumber(name: string, value: number, low: number, high: number): void {
  if (!(low <= value && value <= high)) {
    throw new InvalidArgumentError(`${name} must be a number from ${low} to ${high}, not ${value}.`);
  }
}
