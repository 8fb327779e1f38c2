/** Momentum contrast in both directions, with the hardest negatives of the queue alone. */
import { functional } from '../../nn';
import { noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { positiveInteger } from '../../nn/checks';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkDevice, checkNumber, checkPaired, checkTemperature, widened } from './parts';

/** What {@link dualViewMoCo} takes beside the embeddings. */
export interface DualViewMoCoOptions extends CommonOptions {
  /** λ: how much the direction from queries to keys counts; the other has 1 − λ. Default 0.5. */
  weight?: number;
  /** k: how many entries of the queue are negatives, those of highest cosine with the anchor. Default: all. */
  hardest?: number;
  /** τ: a number, or a tensor of one element. Default 0.07, as in MoCo. */
  temperature?: number | Tensor;
}

/** Scores that are held at once. */
const CHUNK = 1 << 22;

/**
 * Momentum contrast with a dual-view loss and hard negative filtering (Hoang, Ngo, Pham, Nguyen, Bao and Phan 2025, "Momentum Contrastive Learning with Enhanced
 * Negative Sampling and Hard Negative Filtering"): keys are anchors as well, and only the most alike entries of the queue are negatives.
 *
 *     lossᵢ = λ · ℓ(qᵢ, kᵢ) + (1 − λ) · ℓ(kᵢ, qᵢ)
 *     ℓ(a, p) = −log( exp(a·p/τ) / (exp(a·p/τ) + Σ_{n of the k of the queue nearest to a} exp(a·n/τ)) )     by cosine
 *
 * Not checked against the paper: its formulas and λ were not to be had, its abstract says both things in words. Keys, the queue and the choice of negatives
 * have no gradient; queries have, in both directions. With λ = 1 and all negatives it is MoCo's loss. The search takes one pass of scores for each
 * direction, some rows at a time; the chosen negatives take N·k·D.
 *
 * For momentum contrast with a long queue, most of which is too easy to teach anything.
 *
 * @param queries [N, D], of any floating-point dtype
 * @param keys [N, D]: row i is the other view of row i
 * @param queue [K, D]: earlier keys
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function dualViewMoCo(queries: Tensor, keys: Tensor, queue: Tensor, options: DualViewMoCoOptions = {}): Tensor {
  const what = 'dualViewMoCo';
  const { weight = 0.5, hardest = Infinity, temperature = 0.07, ...common } = options;
  checkPaired(queries, keys, what, ['queries', 'keys']);
  checkEmbeddings(queue, `${what}: queue`, queries.sizeOf(1));
  checkDevice(queue, queries, `${what}: queue`);
  checkNumber(weight, `${what}: weight`, { high: 1 });
  checkTemperature(temperature, what);
  if (hardest !== Infinity) positiveInteger(hardest, `${what}: hardest`);
  const [fixed, bank] = [keys.detach(), queue.detach()];
  const direction = (anchors: Tensor, positives: Tensor): Tensor =>
    contrast({
      ...common,
      anchors,
      positives,
      ...(hardest < bank.sizeOf(0)
        ? { negatives: nearestOf(bank, anchors.detach(), hardest) }
        : { candidates: { embeddings: bank } }),
      temperature,
    });
  return scope(() => {
    const forward = weight > 0 ? direction(queries, fixed).mul(weight) : null;
    const backward = weight < 1 ? direction(fixed, queries).mul(1 - weight) : null;
    if (forward === null) return backward!;
    return backward === null ? forward : forward.add(backward);
  });
}

/** The k entries of highest cosine for each anchor, [N, k, D]. */
function nearestOf(bank: Tensor, anchors: Tensor, k: number): Tensor {
  return withoutAutocast(anchors, () =>
    noGrad(() =>
      scope(() => {
        const [x, y] = widened(anchors, bank).map((z) => functional.normalize(z)) as [Tensor, Tensor];
        const rows = Math.max(1, Math.floor(CHUNK / bank.sizeOf(0)));
        const found = x.split(rows).map((some) => scope(() => some.matmul(y.t()).topk(k, 1)[1]));
        return bank.indexSelect(0, torch.cat(found).flatten()).view([anchors.sizeOf(0), k, bank.sizeOf(1)]);
      }),
    ),
  );
}
