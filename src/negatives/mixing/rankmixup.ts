/** RankMixup: confidence in the order of mixing. */
import { InvalidArgumentError, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkDevice, checkNumber, reduced, widened, type Reduction } from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';

/** What {@link mixupRankingLoss} takes beside the logits. */
export interface MixupRankingOptions {
  /** m: by how much a raw sample should be surer than its mix. Default 2, as in the authors' code for CIFAR; 1 for Tiny ImageNet. */
  margin?: number;
  /** Whether confidence is the largest logit (default, as in the authors' code) or the largest probability, where margins are below 1. */
  confidence?: 'logit' | 'probability';
  /** bool [N]: mixes that count; leave out those of two samples of one class. Default: all. They count as 0 in the mean. */
  valid?: Tensor;
  /** `'mean'` (default) over all N, `'sum'`, or `'none'`. */
  reduction?: Reduction;
}

/**
 * The mixup ranking loss of RankMixup (Noh, Park, Lee and Ham 2023, "RankMixup: Ranking-Based Mixup Training for Network Calibration"): a network
 * should be surer of a sample than of a mix of it:
 *
 *     lossᵢ = max(0, conf(mixᵢ) − conf(rawᵢ) + m)
 *
 * Added to cross-entropy on the raw samples with weight 0.1 in the authors' code, which this was checked against. For classifiers whose confidence
 * is to be believed.
 *
 * @param raw [N, C]: logits of samples
 * @param mixed [N, C]: logits of mixes, row i with sample i in it
 * @throws InvalidArgumentError if shapes, dtypes, devices or the margin do not fit
 */
export function mixupRankingLoss(raw: Tensor, mixed: Tensor, options: MixupRankingOptions = {}): Tensor {
  const { margin = 2, confidence = 'logit', valid, reduction } = options;
  checkEmbeddings(raw, 'mixupRankingLoss: raw');
  checkEmbeddings(mixed, 'mixupRankingLoss: mixed', raw.sizeOf(1), raw.sizeOf(0));
  checkDevice(mixed, raw, 'mixupRankingLoss: mixed');
  checkNumber(margin, 'mixupRankingLoss: margin');
  if (valid !== undefined && (valid.dtype !== 'bool' || valid.shape.join() !== String(raw.sizeOf(0)))) {
    throw new InvalidArgumentError(
      `mixupRankingLoss: valid must be bool [${raw.sizeOf(0)}], found ${valid.dtype} [${valid.shape.join(', ')}]`,
    );
  }
  return withoutAutocast(raw, () =>
    scope(() => {
      const [own, mix] = widened(raw, mixed).map((x) => (confidence === 'logit' ? x : x.softmax(1)).amax([1])) as [
        Tensor,
        Tensor,
      ];
      const losses = mix.sub(own).add(margin).relu();
      return reduced(valid === undefined ? losses : losses.mul(valid), reduction);
    }),
  );
}

/** What {@link mixupNdcg} takes beside the logits. */
export interface MixupNdcgOptions {
  /** `'mean'` (default) over the samples, `'sum'`, or `'none'`. */
  reduction?: Reduction;
}

/**
 * M-NDCG, the other loss of the same paper: confidences of a sample and its S mixes should stand in the order of how much of one class is in each,
 * which is measured as a ranking is:
 *
 *     DCG = Σ_r conf_r / log₂(r + 1),   IDCG = Σ_r rel_r / log₂(r + 1),   lossᵢ = 1 − min(DCG/IDCG, IDCG/DCG)
 *
 * r = 1 is the raw sample, of relevance 1; then come its mixes by falling relevance, which is the largest share of a class in the mix. Equal
 * relevances stay in the order given. conf is the largest probability. Checked against the authors' code, which has three mixes a sample and a weight of
 * 0.1 beside cross-entropy. Gradients flow through all confidences.
 *
 * For classifiers whose confidence is to be believed.
 *
 * @param raw [N, C]: logits of samples
 * @param mixed [S, N, C]: logits of S mixes of each
 * @param relevance [S, N]: the largest share of one class in each mix, in (0, 1]: max(λ, 1 − λ), or 1 for two of one class
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function mixupNdcg(raw: Tensor, mixed: Tensor, relevance: Tensor, options: MixupNdcgOptions = {}): Tensor {
  checkEmbeddings(raw, 'mixupNdcg: raw');
  const [count, classes] = raw.shape as [number, number];
  const mixes = mixed.shape[0] ?? 0;
  for (const [name, tensor, shape] of [
    ['mixed', mixed, [mixes, count, classes]],
    ['relevance', relevance, [mixes, count]],
  ] as const) {
    if (tensor.shape.join() !== shape.join() || mixes === 0 || !tensor.isFloatingPoint()) {
      const expected = ['S', ...shape.slice(1)].join(', ');
      throw new InvalidArgumentError(
        `mixupNdcg: ${name}: expected floating-point [${expected}], found ${tensor.dtype} [${tensor.shape.join(', ')}]`,
      );
    }
    checkDevice(tensor, raw, `mixupNdcg: ${name}`);
  }
  return withoutAutocast(raw, () =>
    scope(() => {
      const [own, others] = widened(raw, mixed).map((x) => x.softmax(-1).amax([-1])) as [Tensor, Tensor];
      const [shares, order] = relevance
        .detach()
        .to({ dtype: own.dtype })
        .sort({ stable: true, dim: 0, descending: true });
      const ranks = torch
        .arange(2, mixes + 3, { dtype: own.dtype, device: own.device })
        .log2()
        .unsqueeze(1);
      const gain = (first: Tensor, rest: Tensor): Tensor =>
        torch
          .cat([first.unsqueeze(0), rest])
          .div(ranks)
          .sum([0]);
      const [found, ideal] = [gain(own, others.gather(0, order)), gain(torch.onesLike(own), shares)];
      const losses = found.div(ideal).minimum(ideal.div(found)).neg().add(1);
      return reduced(losses, options.reduction);
    }),
  );
}
