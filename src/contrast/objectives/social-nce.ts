import { functional } from '../../nn';
import { InvalidArgumentError, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { checkEmbeddings } from '../similarity';
import { ownSums } from './blocks';
import { checkDevice, checkShape, checkTemperature, widened, type Reduction } from './parts';

/** What {@link socialNce} takes beside the embeddings. */
export interface SocialNceOptions {
  /** τ: a number, or a tensor of one element. Default 0.07, as in the authors' code. */
  temperature?: number | Tensor;
  /** bool [N, K]: which negatives there are, for scenes of fewer neighbours. Default: all. */
  valid?: Tensor;
  /** `'mean'` over the scenes with a negative (default), `'sum'`, or `'none'` for one loss a scene, 0 where there is none. */
  reduction?: Reduction;
}

/**
 * Social NCE (Liu, Yan and Alahi 2021, "Social NCE: Contrastive Learning of Socially-aware Motion Representations"): an agent's encoded motion
 * should tell where it goes from where it cannot, which is near its neighbours.
 *
 *     lossᵢ = −1/P Σₚ log( exp(cos(mᵢ, eᵢₚ)/τ) / (exp(cos(mᵢ, eᵢₚ)/τ) + Σₖ exp(cos(mᵢ, nᵢₖ)/τ)) )
 *
 * m is the embedding of the motion so far, e those of the places where the agent is later, n those of places around the neighbours at that
 * time. Each positive has a softmax of its own with all negatives, as in the authors' code over several horizons. Sampling places and encoding
 * them is the caller's. It is computed densely: all pairs are the anchor's own.
 *
 * For trajectory forecasting and navigation among people, beside the task's loss.
 *
 * @param motions [N, D], of any floating-point dtype
 * @param positives [N, D] or [N, P, D]
 * @param negatives [N, K, D]
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function socialNce(
  motions: Tensor,
  positives: Tensor,
  negatives: Tensor,
  options: SocialNceOptions = {},
): Tensor {
  const { temperature = 0.07, valid, reduction = 'mean' } = options;
  const what = 'socialNce';
  checkEmbeddings(motions, `${what}: motions`);
  checkTemperature(temperature, what);
  const [count, dimension] = motions.shape as readonly [number, number];
  for (const [name, own, letter] of [
    ['positives', positives, 'P'],
    ['negatives', negatives, 'K'],
  ] as const) {
    const { shape } = own;
    const isMatrix = name === 'positives' && shape.length === 2;
    const fits =
      (isMatrix || shape.length === 3) && shape[0] === count && shape.at(-1) === dimension && own.numel() > 0;
    if (!fits || !own.isFloatingPoint()) {
      throw new InvalidArgumentError(
        `${what}: ${name}: expected floating-point [${count}, ${letter}, ${dimension}], found ${own.dtype} [${shape.join(', ')}]`,
      );
    }
    checkDevice(own, motions, `${what}: ${name}`);
  }
  if (valid !== undefined) {
    if (valid.dtype !== 'bool') throw new InvalidArgumentError(`${what}: valid must be bool, found ${valid.dtype}`);
    checkShape(valid, [count, negatives.sizeOf(1)], `${what}: valid`);
    checkDevice(valid, motions, `${what}: valid`);
  }
  return withoutAutocast(motions, () => {
    const several = positives.ndim === 2 ? positives.unsqueeze(1) : positives;
    const [m, own, others] = widened(motions, several, negatives).map((x) => functional.normalize(x)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const scores = (x: Tensor): Tensor => x.matmul(m.unsqueeze(2)).squeeze(2).div(temperature);
    const { log } = ownSums(scores(others), valid);
    const losses = softplus(log.unsqueeze(1).sub(scores(own))).mean([1]);
    if (reduction === 'none') return losses;
    const sum = losses.sum();
    return reduction === 'sum' ? sum : sum.div(log.isfinite().sum().clampMin(1));
  });
}
