/** What the mixers share: drawing how much and with whom, and mixing inputs. Random numbers never depend on the device or dtype of what is mixed. */
import { InvalidArgumentError, ops, torch, type Generator, type Tensor } from '../../torch';
import { checkDevice, checkIds, checkNumber } from '../../contrast/objectives/parts';

/** The least concentration of a beta distribution: below, draws are 0 or 1 but for what a number cannot hold. */
const LEAST = 0.05;

/** @throws InvalidArgumentError naming `what` unless it can be a parameter of a beta distribution */
export function checkConcentration(value: number, what: string): void {
  checkNumber(value, what, { low: LEAST });
}

/** Uniform in [0, 1), of a shape, float64 where the generator is. */
export function drawUnit(shape: readonly number[], generator: Generator): Tensor {
  return torch.rand([...shape], { dtype: 'float64', generator, device: generator.device });
}

/**
 * Draws from Beta(α, α), as the ratio X / (X + Y) of two gamma variables; for α = 1 they are uniform.
 *
 * @returns float64 of the shape, where the generator is
 */
export function drawBeta(shape: readonly number[], alpha: number, generator: Generator): Tensor {
  if (alpha === 1) return drawUnit(shape, generator);
  const concentration = torch.full([2, ...shape], alpha, { dtype: 'float64', device: generator.device });
  const gamma = ops.aten!._standard_gamma!(concentration, { generator }) as Tensor;
  return gamma.select(0, 0).div(gamma.sum([0]));
}

/** A random order of 0 … count − 1: int64 [count], where `like` is. */
export function drawOrder(count: number, generator: Generator, like: Tensor): Tensor {
  return torch.randperm(count, { generator, device: generator.device, dtype: 'int64' }).to(like.device);
}

/**
 * For each row, one of the columns that the mask allows, each as likely as another.
 *
 * @param allowed bool [N, M]
 * @returns int64 [N]; what a row without a choice gets means nothing
 */
export function drawAllowed(allowed: Tensor, generator: Generator): Tensor {
  const keys = drawUnit(allowed.shape, generator).to(allowed.device);
  return keys.maskedFill(allowed.logicalNot(), -1).argmax(1);
}

/** Numbers, one a sample, with as many dimensions as `like`, its dtype and device: [N, 1, …]. */
export function asFactors(values: Tensor, like: Tensor): Tensor {
  return values
    .to({ dtype: like.dtype, device: like.device })
    .reshape([values.numel(), ...Array<number>(like.ndim - 1).fill(1)]);
}

/** Inputs mixed with others of the same batch, and what their labels are made of. */
export interface MixedInputs {
  /** Like the inputs. */
  inputs: Tensor;
  /** int64 [N]: with whom each was mixed. */
  partners: Tensor;
  /** [N]: each input's own share λ, float32 or float64; the partner's is 1 − λ. */
  lambda: Tensor;
}

/**
 * Mixes every input with its partner (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"): x̃ᵢ = λᵢ xᵢ + (1 − λᵢ) x_partner(i).
 * Gradients flow to both.
 *
 * @param inputs [N, …], floating-point: inputs, features or embeddings
 * @param partners int64 [N]
 * @param lambda [N]
 */
export function mixup(inputs: Tensor, partners: Tensor, lambda: Tensor): Tensor {
  return inputs.indexSelect(0, partners).lerp(inputs, asFactors(lambda, inputs));
}

/** A rectangle in images: rows from `top` to before `bottom`, columns from `left` to before `right`. */
export interface Box {
  top: number;
  bottom: number;
  left: number;
  right: number;
}

/**
 * Pastes one rectangle of its partner into every image (Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
 * Features").
 *
 * @param inputs [N, C, H, W]
 * @param partners int64 [N]
 */
export function cutMix(inputs: Tensor, partners: Tensor, box: Box): Tensor {
  const [height, width] = inputs.shape.slice(2) as [number, number];
  return torch.where(boxMask(box, height, width, inputs), inputs.indexSelect(0, partners), inputs);
}

/** Where the rectangle is: bool [height, width]. */
export function boxMask(box: Box, height: number, width: number, like: Tensor): Tensor {
  const [rows, columns] = [height, width].map((size) =>
    torch.arange(size, { device: like.device, dtype: 'int64' }),
  ) as [Tensor, Tensor];
  return rows
    .ge(box.top)
    .logicalAnd(rows.lt(box.bottom))
    .unsqueeze(1)
    .logicalAnd(columns.ge(box.left).logicalAnd(columns.lt(box.right)));
}

/** The share of the image that the rectangle leaves. */
export function areaOutside(box: Box, height: number, width: number): number {
  return 1 - ((box.bottom - box.top) * (box.right - box.left)) / (height * width);
}

/**
 * A rectangle of about 1 − λ of an image, of the image's proportions, its centre uniform over the pixels; what lies outside the image is cut
 * off, so the share is to be taken from {@link areaOutside}.
 */
export function drawBox(height: number, width: number, lambda: number, generator: Generator): Box {
  const side = Math.sqrt(1 - lambda);
  const [h, w] = [Math.floor(height * side), Math.floor(width * side)];
  const [y, x] = drawUnit([2], generator).dataSync() as Float64Array;
  const [row, column] = [Math.floor(y! * height), Math.floor(x! * width)];
  const within = (at: number, size: number): number => Math.min(Math.max(at, 0), size);
  return {
    top: within(row - (h >> 1), height),
    bottom: within(row - (h >> 1) + h, height),
    left: within(column - (w >> 1), width),
    right: within(column - (w >> 1) + w, width),
  };
}

/** @throws InvalidArgumentError naming `what` unless the tensor is floating-point [N, …] with at least `dimensions` and a sample */
export function checkInputs(inputs: Tensor, what: string, dimensions = 1): void {
  if (inputs.ndim < dimensions || inputs.numel() === 0 || !inputs.isFloatingPoint()) {
    const shape = ['N', 'C', 'H', 'W'].slice(0, dimensions).join(', ');
    throw new InvalidArgumentError(
      `${what}: expected floating-point [${shape}${dimensions === 4 ? '' : ', …'}], found ${inputs.dtype} [${inputs.shape.join(', ')}]`,
    );
  }
}

/** @throws InvalidArgumentError unless partners are int64 [count] and the shares floating-point [count], where `like` is */
export function checkMix(partners: Tensor, lambda: Tensor, count: number, like: Tensor, what: string): void {
  checkIds(partners, count, `${what}: partners`, like);
  checkShares(lambda, count, like, `${what}: lambda`);
}

/** @throws InvalidArgumentError naming `what` unless the shares are floating-point [count], where `like` is */
export function checkShares(lambda: Tensor, count: number, like: Tensor, what: string): void {
  if (lambda.ndim !== 1 || lambda.numel() !== count || !lambda.isFloatingPoint()) {
    throw new InvalidArgumentError(
      `${what}: expected floating-point [${count}], found ${lambda.dtype} [${lambda.shape.join(', ')}]`,
    );
  }
  checkDevice(lambda, like, what);
}
