/** SupReMix: supervised contrast for regression, with mixtures of embeddings as hard positives and hard negatives. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, torch, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkEmbeddings } from '../similarity';
import { maskedLogSumExp } from '../logarithms';
import { checkDevice, checkNumber, checkPaired, checkShape, checkTemperature, widened, type Reduction } from './parts';

/** What {@link supReMix} takes beside the views and targets. */
export interface SupReMixOptions {
  /** τ: a number, or a tensor of one element. Default 0.3, as in the authors' code. */
  temperature?: number | Tensor;
  /** ε: how far from the anchor's target, at most and not as far, both parts of a hard positive may be. Above 0; default 5, which fits ages. */
  window?: number;
  /** Whether candidates weigh by how far their target is from the anchor's. Default true, as in the paper. */
  magnify?: boolean;
  /**
   * The shares of the anchor in its hard negatives, [V·N, V·N], or the two whole numbers of the beta distribution that they are drawn from.
   * Default [2, 8], as in the authors' code: mostly the other sample.
   */
  shares?: Tensor | readonly [number, number];
  /** Default: the device's default generator. */
  generator?: Generator;
  /** `'mean'` over the views with a positive (default), `'sum'`, or `'none'` for one loss a view, 0 where there is none. */
  reduction?: Reduction;
}

/**
 * SupReMix (Wu et al. 2023, "Mixup Your Own Pairs"): SupCon for targets that are numbers. Samples of one target are positives; to them come mixtures
 * of two embeddings, which are harder and follow the order of the targets.
 *
 *     lossᵢ = −1/|P(i)| Σ_{p∈P(i)} log( exp(zᵢ·cₚ/τ) / Σ_c w_ic exp(zᵢ·c/τ) ),   w_ic = 1 + |yᵢ − y_c|
 *
 * over these candidates c, with their targets y_c:
 *
 *     zⱼ, j ≠ i                            yⱼ                       a positive if yⱼ = yᵢ
 *     α zᵢ + (1−α) zₖ, yₖ ≠ yᵢ             α yᵢ + (1−α) yₖ          a hard negative, one for each k, with α at random
 *     λ zⱼ + (1−λ) zₖ, yⱼ < yᵢ < yₖ        yᵢ                       a hard positive, one for each j, k within the window around yᵢ
 *
 * where λ = (yₖ − yᵢ)/(yₖ − yⱼ), so that the targets mix to the anchor's. Embeddings have length one; mixtures are shorter, and have no gradient
 * but the anchor's. This is the form of the authors' code, but that it subtracts the greatest score of the samples and that of the mixtures from
 * each, for stability, which are not the same.
 *
 * It is dense: V·N cubed numbers for the hard positives, so take a batch of some hundred at most.
 *
 * For representations that a regressor shall read: ages, scores, measurements.
 *
 * @param views V ≥ 1 tensors [N, D], of any floating-point dtype: row i of all belongs to sample i
 * @param targets [N], numbers
 * @returns the loss without dimensions; with reduction `'none'` [V·N], view by view
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function supReMix(views: readonly Tensor[], targets: Tensor, options: SupReMixOptions = {}): Tensor {
  const { temperature = 0.3, window = 5, magnify = true, shares = [2, 8], generator, reduction = 'mean' } = options;
  check(views, targets, { temperature, window, shares });
  const [first] = views as readonly [Tensor];
  return withoutAutocast(first, () => {
    const x = functional.normalize(widened(torch.cat([...views]))[0]);
    const total = x.sizeOf(0);
    const y = targets.detach().to({ dtype: x.dtype }).repeat([views.length]);
    const apart = y.unsqueeze(1).sub(y.unsqueeze(0)).neg(); // [i, j]: yⱼ − yᵢ
    const self = torch.eye(total, { dtype: 'bool', device: x.device });
    const same = apart.eq(0);
    const scaled = x.div(temperature);
    const scores = scaled.matmul(x.t());
    const fixed = scaled.matmul(x.detach().t());
    const weigh = (raw: Tensor, distance: Tensor): Tensor => (magnify ? raw.add(distance.abs().log1p()) : raw);

    const alpha = 'shape' in shares ? shares.to({ dtype: x.dtype }) : noGrad(() => draw(shares, x, generator));
    const rest = alpha.neg().add(1);
    const mixed = fixed.diagonal().unsqueeze(1).mul(alpha).add(fixed.mul(rest));

    // λ·sᵢⱼ + (1−λ)·sᵢₖ, with λ = gₖ/(gₖ − gⱼ) for the gaps g to the anchor's target: [i, j, k].
    const below = apart.lt(0).logicalAnd(apart.gt(-window)).unsqueeze(2);
    const above = apart.gt(0).logicalAnd(apart.lt(window)).unsqueeze(1);
    const between = below.logicalAnd(above);
    const gaps = apart.unsqueeze(1).sub(apart.unsqueeze(2));
    const lambda = apart.unsqueeze(1).div(torch.where(between, gaps, gaps.newOnes([])));
    const hard = fixed
      .unsqueeze(2)
      .mul(lambda)
      .add(fixed.unsqueeze(1).mul(lambda.neg().add(1)));

    const own = same.logicalAnd(self.logicalNot());
    const flat = (z: Tensor): Tensor => z.reshape([total, total * total]);
    const sums = maskedLogSumExp(
      torch.cat([weigh(scores, apart), weigh(mixed, apart.mul(rest)), flat(hard)], 1),
      torch.cat([self.logicalNot(), same.logicalNot(), flat(between)], 1),
      1,
    );
    const zero = x.newZeros([]);
    const count = own.sum([1]).add(between.sum([1, 2]));
    const pulled = torch
      .where(own, scores, zero)
      .sum([1])
      .add(torch.where(between, hard, zero).sum([1, 2]))
      .div(count.clampMin(1));
    const has = count.gt(0);
    const losses = torch.where(has, torch.where(has, sums, zero).sub(pulled), zero);
    if (reduction === 'none') return losses;
    return reduction === 'sum' ? losses.sum() : losses.sum().div(has.sum().clampMin(1));
  });
}

/** Beta(a, b) of whole numbers: the a-th least of a + b − 1 uniform numbers. */
function draw([a, b]: readonly [number, number], like: Tensor, generator: Generator | undefined): Tensor {
  const total = like.sizeOf(0);
  const uniform = torch.rand([a + b - 1, total, total], { dtype: like.dtype, device: like.device, generator });
  return uniform.sort(0)[0].select(0, a - 1);
}

function check(
  views: readonly Tensor[],
  targets: Tensor,
  options: Required<Pick<SupReMixOptions, 'temperature' | 'window' | 'shares'>>,
): void {
  const { temperature, window, shares } = options;
  const [first] = views;
  if (first === undefined) throw new InvalidArgumentError('supReMix: there are no views');
  checkEmbeddings(first, 'supReMix: views[0]');
  views.slice(1).forEach((view, i) => {
    checkPaired(first, view, 'supReMix', ['views[0]', `views[${i + 1}]`]);
  });
  checkShape(targets, [first.sizeOf(0)], 'supReMix: targets');
  checkDevice(targets, first, 'supReMix: targets');
  if (targets.dtype === 'bool') throw new InvalidArgumentError('supReMix: targets must be numbers, found bool');
  checkTemperature(temperature, 'supReMix');
  checkNumber(window, 'supReMix: window', { above: true });
  const total = first.sizeOf(0) * views.length;
  if ('shape' in shares) {
    checkShape(shares, [total, total], 'supReMix: shares');
    checkDevice(shares, first, 'supReMix: shares');
  } else if (shares.length !== 2 || shares.some((value) => !Number.isSafeInteger(value) || value < 1)) {
    throw new InvalidArgumentError(
      `supReMix: shares must be a tensor or two whole numbers of at least 1, found ${shares.join(', ')}`,
    );
  }
}
