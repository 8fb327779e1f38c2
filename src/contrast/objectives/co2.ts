/** CO2: both views should find the same negatives alike. */
import { functional } from '../../nn';
import { torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { chooseExecution } from '../execution';
import { checkEmbeddings } from '../similarity';
import { pairStatistics } from '../statistics';
import type { CommonOptions } from './common-options';
import { checkDevice, checkPaired, checkTemperature, reduced, widened } from './parts';

/** What {@link co2} takes beside the views. */
export interface Co2Options extends CommonOptions {
  /** Negatives of all samples, [K, D]: a queue, detached. Default: the other samples of the batch, in the other view. */
  negatives?: Tensor;
  /** τ of the consistency term: a number, or a tensor of one element. Default 0.05, as in lightly. */
  temperature?: number | Tensor;
  /** Whether the positive pair has a share of both distributions, as in lightly. Default false, as in the paper. */
  includePositive?: boolean;
}

/**
 * The consistency term of CO2 (Wei, Wang, Shen and Yuille 2021, "CO2: Consistent Contrast for Unsupervised Visual Representation Learning"): a
 * sample's two views should be alike to each negative in the same measure. It is added to a contrastive loss, with a weight that is the caller's.
 *
 *     lossᵢ = ½ KL(Pᵢ ‖ Qᵢ) + ½ KL(Qᵢ ‖ Pᵢ)
 *     Pᵢ(k) = exp(zᵢ·nₖ/τ) / Σⱼ exp(zᵢ·nⱼ/τ),   Qᵢ(k) = exp(zᵢ⁺·nₖ/τ) / Σⱼ exp(zᵢ⁺·nⱼ/τ)
 *
 * with all vectors of length one. Without `negatives` P is over z·z⁺ₖ and Q over z⁺·zₖ for the other samples k, as in lightly; then the matrix
 * of scores is held, whatever `execution` says. With them the term is ½/τ·(zᵢ − zᵢ⁺)·(E_P[n] − E_Q[n]), which goes tile by tile where LibTorch's
 * attention does. Both sides have gradients. No negatives, or one alone, have the loss 0.
 *
 * For self-supervised training with a queue, where some negatives are of the sample's class.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function co2(first: Tensor, second: Tensor, options: Co2Options = {}): Tensor {
  const { negatives, temperature = 0.05, includePositive = false, reduction, execution = 'auto' } = options;
  checkPaired(first, second, 'co2');
  checkTemperature(temperature, 'co2');
  if (negatives !== undefined) {
    checkEmbeddings(negatives, 'co2: negatives', first.sizeOf(1));
    checkDevice(negatives, first, 'co2: negatives');
  }
  return withoutAutocast(first, () => {
    const [p, q, bank] = widened(first, second, negatives ?? first).map((x) => functional.normalize(x)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const scaled = (x: Tensor): Tensor => x.div(temperature);
    const own = includePositive ? scaled(p.mul(q).sum([1])) : null;
    if (negatives === undefined) {
      const scores = scaled(p.matmul(q.t()));
      const self = torch.eye(p.sizeOf(0), { dtype: 'bool', device: p.device });
      return reduced(divergence(scores, scores.t(), self, own), reduction);
    }
    const chosen = chooseExecution(p, bank.sizeOf(0), execution).execution;
    if (chosen === 'dense') {
      return reduced(divergence(scaled(p).matmul(bank.t()), scaled(q).matmul(bank.t()), null, own), reduction);
    }
    const [meanP, meanQ] = [p, q].map((x) => meanOf(scaled(x), bank, own)) as [Tensor, Tensor];
    return reduced(scaled(p.sub(q)).mul(meanP.sub(meanQ)).sum([1]).div(2), reduction);
  });
}

/** ½ Σₖ (Pₖ − Qₖ)·(sₖ − tₖ), to which the symmetric divergence of the softmaxes of s and t comes down. */
function divergence(s: Tensor, t: Tensor, leftOut: Tensor | null, own: Tensor | null): Tensor {
  const shares = (scores: Tensor): Tensor => {
    // A finite lowest score: a row without any negative has shares that nothing is made of.
    const kept = leftOut === null ? scores : scores.maskedFill(leftOut, -1e30);
    if (own === null) return kept.softmax(1);
    const all = torch.cat([own.unsqueeze(1), kept], 1).softmax(1);
    return all.narrow(1, 1, scores.sizeOf(1));
  };
  const terms = shares(s).sub(shares(t)).mul(s.sub(t));
  return (leftOut === null ? terms : terms.maskedFill(leftOut, 0)).sum([1]).div(2);
}

/** The mean of the bank by the softmax of each row's scores with it; the positive pair, with a share of that, adds nothing. */
function meanOf(rows: Tensor, bank: Tensor, own: Tensor | null): Tensor {
  const batched = (x: Tensor): Tensor => x.unsqueeze(0).unsqueeze(0);
  const keys = batched(bank);
  const mean = torch.scaledDotProductAttention(batched(rows), keys, keys, { scale: 1 }).squeeze(0).squeeze(0);
  if (own === null) return mean;
  const [log] = pairStatistics({ rows, columns: bank }, [{ kind: 'logSumExp', over: 'all' }], 'tiled');
  return mean.mul(log!.sub(own).sigmoid().unsqueeze(1));
}
