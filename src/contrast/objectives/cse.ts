/** CSE: embeddings in which defects of a surface are opposite to what is whole. */
import { functional } from '../../nn';
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkDevice, checkShape, reduced, widened, type Reduction } from './parts';

/** What {@link cse} takes beside the embeddings. */
export interface CseOptions {
  /** `'mean'` over the pairs (default), `'sum'` as in the authors' code, or `'none'`. */
  reduction?: Reduction;
}

/**
 * The contrastive part of CSE (Thomine and Snoussi 2024, "CSE: Surface Anomaly Detection with Contrastively Selected Embedding"): two samples without a
 * defect should be embedded alike, and one with a defect opposite to one without.
 *
 *     lossᵢ = 1 − cos(xᵢ, yᵢ), or (1 + cos(xᵢ, yᵢ))/2 where y has a defect
 *
 * This is the form of the authors' code. For feature maps [N, C, H, W] it has the cosine along the width, for each channel and row, and their
 * mean: so it is here. Give [N, D] for one cosine a pair. The authors' whole loss is `cse(…, { reduction: 'sum' })` times 10 plus
 * {@link cseReconstruction}. Defects are made by painting noise on samples without one; the score of a new sample is 1 − cos to one that stands
 * for those of the training.
 *
 * For telling defects of textures and surfaces from examples without any.
 *
 * @param first [N, …, D], samples without a defect
 * @param second as `first`: what each is paired with
 * @param defective bool [N]: whether row i of `second` has a defect
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function cse(first: Tensor, second: Tensor, defective: Tensor, options: CseOptions = {}): Tensor {
  const { reduction } = options;
  checkFeatures(first, second, 'cse', ['first', 'second']);
  checkShape(defective, [first.sizeOf(0)], 'cse: defective');
  if (defective.dtype !== 'bool')
    throw new InvalidArgumentError(`cse: defective must be bool, found ${defective.dtype}`);
  checkDevice(defective, first, 'cse: defective');
  return withoutAutocast(first, () => {
    const [x, y] = widened(first, second).map((z) => functional.normalize(z, { dim: -1 })) as [Tensor, Tensor];
    const cosines = x
      .mul(y)
      .sum([-1])
      .reshape([first.sizeOf(0), -1])
      .mean([1]);
    return reduced(torch.where(defective, cosines.add(1).div(2), cosines.neg().add(1)), reduction);
  });
}

/**
 * The other part of CSE's loss (Thomine and Snoussi 2024): what a decoder makes of the embedding should be the features that it was made of, so that the
 * embedding keeps them.
 *
 *     loss = 1/levels · Σ_levels 1/(H·W) · Σ over samples and positions of ½‖o/‖o‖ − t/‖t‖‖²
 *
 * o and t are the vectors of the channels at a position. The sum over samples is the authors'; divide it by the batch for a mean.
 *
 * @param outputs one tensor a level, [N, C, H, W]
 * @param targets the features of the frozen network, as `outputs`
 * @returns the loss, without dimensions
 * @throws InvalidArgumentError if there are no levels, or shapes, dtypes or devices do not fit
 */
export function cseReconstruction(outputs: readonly Tensor[], targets: readonly Tensor[]): Tensor {
  const what = 'cseReconstruction';
  const [first] = outputs;
  if (first === undefined || outputs.length !== targets.length) {
    throw new InvalidArgumentError(
      `${what}: outputs and targets must be as many levels, at least one; found ${outputs.length} and ${targets.length}`,
    );
  }
  outputs.forEach((output, i) => {
    checkFeatures(output, targets[i]!, what, [`outputs[${i}]`, `targets[${i}]`]);
    if (output.ndim !== 4) {
      throw new InvalidArgumentError(`${what}: outputs[${i}] must be [N, C, H, W], found [${output.shape.join(', ')}]`);
    }
  });
  return withoutAutocast(first, () => {
    const levels = outputs.map((output, i) => {
      const [o, t] = widened(output, targets[i]!).map((z) => functional.normalize(z, { dim: 1 })) as [Tensor, Tensor];
      return o
        .sub(t)
        .square()
        .sum()
        .div(2 * output.sizeOf(2) * output.sizeOf(3));
    });
    return torch.stack(levels).mean();
  });
}

function checkFeatures(one: Tensor, other: Tensor, what: string, names: readonly [string, string]): void {
  if (one.ndim < 2 || one.numel() === 0 || !one.isFloatingPoint()) {
    throw new InvalidArgumentError(
      `${what}: ${names[0]} must be floating-point and [N, …, D], found ${one.dtype} [${one.shape.join(', ')}]`,
    );
  }
  checkShape(other, one.shape, `${what}: ${names[1]}`);
  checkDevice(other, one, `${what}: ${names[1]}`);
  if (!other.isFloatingPoint()) {
    throw new InvalidArgumentError(`${what}: ${names[1]} must be floating-point, found ${other.dtype}`);
  }
}
