/** RegMix: mixup for regression, among near neighbours. */
import { InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkDevice, checkIds, checkNumber } from '../../contrast/objectives/parts';
import { positiveInteger } from '../../nn/checks';
import { asFactors, checkConcentration, checkInputs, drawBeta, drawUnit, mixup, type MixedInputs } from './mix';

/** What {@link regMix} takes beside inputs and targets. */
export interface RegMixOptions {
  /**
   * k: each sample is mixed with one of its k nearest others, a number for all or int64 [N], one each; 0
   * leaves a sample as it is. More than there are means all. Default 4.
   */
  neighbors?: number | Tensor;
  /** Where distances are taken: [N, …]. Default: the inputs. */
  features?: Tensor;
  /** α of Beta(α, α). Default 1. */
  alpha?: number;
  generator: Generator;
}

/** Inputs and targets mixed alike. */
export interface RegressionMix extends MixedInputs {
  /** Like the targets. */
  targets: Tensor;
}

/**
 * RegMix (Hwang and Whang 2021, "RegMix: Data Mixing Augmentation for Regression"): mixup for targets that are numbers, limited to neighbours,
 * since a straight line between two samples is a good guess only where they are near:
 *
 *     x̃ᵢ = λᵢ xᵢ + (1 − λᵢ) xⱼ,   ỹᵢ = λᵢ yᵢ + (1 − λᵢ) yⱼ,   j one of the kᵢ nearest of i,   λᵢ ~ Beta(α, α)
 *
 * by Euclidean distance, each of the kᵢ as likely as another. How many neighbours each sample has is what the paper learns on a validation set.
 * The abstract says so much; the paper itself was not to be had, so details (which α, in which space distances are) were not checked.
 *
 * For regression on few samples.
 *
 * @param inputs [N, …], floating-point
 * @param targets [N] or [N, T], floating-point
 * @throws InvalidArgumentError if shapes, dtypes, devices or numbers do not fit, before anything is drawn
 */
export function regMix(inputs: Tensor, targets: Tensor, options: RegMixOptions): RegressionMix {
  const { neighbors = 4, features = inputs, alpha = 1, generator } = options;
  checkRegression(inputs, targets, 'regMix');
  checkInputs(features, 'regMix: features');
  checkDevice(features, inputs, 'regMix: features');
  const count = inputs.sizeOf(0);
  if (features.sizeOf(0) !== count) {
    throw new InvalidArgumentError(`regMix: features: expected ${count} rows, found ${features.sizeOf(0)}`);
  }
  checkConcentration(alpha, 'regMix: alpha');
  if (typeof neighbors === 'number') positiveInteger(neighbors, 'regMix: neighbors');
  else checkIds(neighbors, count, 'regMix: neighbors', inputs);
  return scope(() => {
    const order = nearestFirst(features);
    const most = count - 1;
    const allowed =
      typeof neighbors === 'number'
        ? torch.full([count], Math.min(neighbors, most), { dtype: 'int64', device: inputs.device })
        : neighbors.clamp(0, most);
    // Rank 0 is the sample itself.
    const rank = drawUnit([count], generator).to(inputs.device).mul(allowed).floor().to('int64').add(1);
    const partners = order.gather(1, rank.minimum(allowed).unsqueeze(1)).squeeze(1);
    return mixBoth(inputs, targets, partners, drawBeta([count], alpha, generator));
  });
}

/** What {@link cMixup} takes beside inputs and targets. */
export interface CMixupOptions {
  /** σ: how near targets must be, in units of the targets. Default 1. */
  bandwidth?: number;
  /** α of Beta(α, α). Default 2. */
  alpha?: number;
  generator: Generator;
}

/**
 * C-Mixup (Yao, Wang, Zhang, Zou and Finn 2022, "C-Mixup: Improving Generalization in Regression"): a partner is the likelier, the nearer its
 * target: P(j | i) ∝ exp(−‖yᵢ − yⱼ‖² / (2σ²)), j ≠ i. Inputs and targets are mixed as in {@link regMix}. Written from memory of the paper; the
 * defaults are a choice.
 *
 * For regression, where distances of inputs mean little.
 *
 * @param inputs [N, …], floating-point
 * @param targets [N] or [N, T], floating-point
 * @throws InvalidArgumentError if shapes, dtypes, devices or numbers do not fit, before anything is drawn
 */
export function cMixup(inputs: Tensor, targets: Tensor, options: CMixupOptions): RegressionMix {
  const { bandwidth = 1, alpha = 2, generator } = options;
  checkRegression(inputs, targets, 'cMixup');
  checkNumber(bandwidth, 'cMixup: bandwidth', { above: true });
  checkConcentration(alpha, 'cMixup: alpha');
  return scope(() => {
    const count = inputs.sizeOf(0);
    const scores = squaredDistances(targets).div(-2 * bandwidth ** 2);
    const others = count === 1 ? scores : scores.fillDiagonal_(-Infinity);
    // The largest of score + Gumbel noise is a draw from the softmax, also where all but one chance vanish.
    const noise = drawUnit([count, count], generator).to({ device: inputs.device, dtype: scores.dtype });
    const partners = others.sub(noise.clampMin(Number.MIN_VALUE).log().neg().log()).argmax(1);
    return mixBoth(inputs, targets, partners, drawBeta([count], alpha, generator));
  });
}

/** Squared Euclidean distances of rows, in float64. */
function squaredDistances(x: Tensor): Tensor {
  return withoutAutocast(x, () =>
    noGrad(() => {
      const rows = x
        .detach()
        .reshape([x.sizeOf(0), -1])
        .to('float64');
      return torch.cdist(rows, rows, 2, { computeMode: EXACT }).square();
    }),
  );
}

/** The code number of `cdist` for distances without the shortcut through products. */
const EXACT = 2;

/** int64 [N, N]: all samples by distance from each, itself first. */
function nearestFirst(features: Tensor): Tensor {
  return squaredDistances(features).fillDiagonal_(-1).argsort({ stable: true, dim: 1 });
}

function mixBoth(inputs: Tensor, targets: Tensor, partners: Tensor, drawn: Tensor): RegressionMix {
  const dtype = inputs.dtype === 'float64' ? 'float64' : 'float32';
  const lambda = drawn.to({ dtype, device: inputs.device });
  return {
    inputs: mixup(inputs, partners, lambda),
    targets: targets.indexSelect(0, partners).lerp(targets, asFactors(lambda, targets)),
    partners,
    lambda,
  };
}

function checkRegression(inputs: Tensor, targets: Tensor, what: string): void {
  checkInputs(inputs, `${what}: inputs`);
  checkInputs(targets, `${what}: targets`);
  checkDevice(targets, inputs, `${what}: targets`);
  if (targets.sizeOf(0) !== inputs.sizeOf(0) || targets.ndim > 2) {
    throw new InvalidArgumentError(
      `${what}: targets: expected shape [${inputs.sizeOf(0)}] or [${inputs.sizeOf(0)}, T], found [${targets.shape.join(', ')}]`,
    );
  }
}
