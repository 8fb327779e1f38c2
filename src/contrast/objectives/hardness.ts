/** How temperature weighs negatives: the loss that takes the hardest only, and what tells how hard a loss presses. */
import { enableGrad, grad, InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { contrast, type Candidates } from '../contrast';
import { defineLink } from '../link';
import { checkEmbeddings, similarityMatrix } from '../similarity';
import type { Execution } from '../statistics';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  checkTemperature,
  partitionLink,
  positionsOf,
  type Reduction,
  widened,
} from './parts';

/** What {@link hardContrastive} takes beside the embeddings. */
export interface HardContrastiveOptions {
  /** τ. Default 0.07. */
  temperature?: number | Tensor;
  /** α, which share of an anchor's negatives count, the most alike: above 0, at most 1. Default 0.1. */
  share?: number;
  /** [K, D]: further negatives of all anchors, a queue or a bank. */
  negatives?: Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/** How many rows' scores are held at once where limits are looked for. */
const ROWS_AT_ONCE = 256;

/**
 * The hard contrastive loss (Wang and Liu 2021, "Understanding the Behaviour of Contrastive Loss"): InfoNCE with the hardest negatives only,
 * so that a high temperature keeps its tolerance and still looks at what is near.
 *
 *     Lᵢ = −log( exp(sᵢᵢ/τ) / ( exp(sᵢᵢ/τ) + Σ_{j≠i, sᵢⱼ ≥ qᵢ} exp(sᵢⱼ/τ) ) )
 *
 * s is the cosine and qᵢ the upper α-quantile of the row's negatives: the ⌈α·K⌉ most alike of K count. The quantile has no gradient. Which of
 * several equal negatives at the limit count is not said. With α = 1 it is InfoNCE.
 *
 * The paper keeps 4,095 negatives of a bank, which is a share of 0.03 to 0.08 there. The limits are one more pass through the scores, a few rows at
 * a time.
 *
 * @param anchors [N, D]
 * @param positives [N, D]: row i is the positive of anchor i, and a negative of the others
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for an anchor without negatives
 * @throws InvalidArgumentError if shapes do not fit or the share is not in (0, 1]
 */
export function hardContrastive(anchors: Tensor, positives: Tensor, options: HardContrastiveOptions = {}): Tensor {
  const { temperature = 0.07, share = 0.1, negatives, reduction, execution } = options;
  checkPaired(anchors, positives, 'hardContrastive', ['anchors', 'positives']);
  checkTemperature(temperature, 'hardContrastive');
  checkNumber(share, 'hardContrastive: share', { above: true, high: 1 });
  if (negatives !== undefined) {
    checkEmbeddings(negatives, 'hardContrastive: negatives', anchors.sizeOf(1));
    checkDevice(negatives, anchors, 'hardContrastive: negatives');
  }
  const labels = positionsOf(anchors.sizeOf(0), anchors);
  const sets = negatives === undefined ? [positives] : [positives, negatives];
  // The engine leaves out negatives whose guide score is above a limit. Minus the similarity is the guide: the easy ones are above.
  const [rows, ...columns] = withoutAutocast(anchors, () =>
    noGrad(() => widened(anchors, ...sets).map((x) => functional.normalize(x))),
  );
  const candidates = sets.map((embeddings, i): Candidates => ({
    embeddings,
    guides: columns[i],
    ...(i === 0 && { labels }),
  }));
  return contrast({
    anchors,
    candidates,
    labels,
    guides: rows!.neg(),
    guideLimits: withoutAutocast(anchors, () => noGrad(() => limitsOf(rows!, torch.cat(columns), share))),
    temperature,
    reduction,
    execution,
  });
}

/** Minus the similarity halfway between the last negative that counts and the first that does not, so that rounding decides nothing. */
function limitsOf(rows: Tensor, columns: Tensor, share: number): Tensor {
  const [count, negatives] = [rows.sizeOf(0), columns.sizeOf(0) - 1];
  const kept = Math.max(1, Math.ceil(share * negatives));
  if (kept >= negatives) return rows.newFull([count], Infinity);
  const parts: Tensor[] = [];
  for (let start = 0; start < count; start += ROWS_AT_ONCE) {
    parts.push(
      scope(() => {
        const size = Math.min(ROWS_AT_ONCE, count - start);
        const scores = rows.narrow(0, start, size).matmul(columns.t());
        const own = positionsOf(size, rows).add(start).unsqueeze(1);
        const [best] = scores.scatter(1, own, -Infinity).topk(kept + 1, 1);
        return best
          .narrow(1, kept - 1, 2)
          .mean([1])
          .neg();
      }),
    );
  }
  return torch.cat(parts);
}

/** What the measures of a batch's negatives take beside the embeddings. */
export interface NegativeShareOptions {
  /** τ. Default 0.07. */
  temperature?: number;
  execution?: Execution | 'auto';
}

function checkNegatives(first: Tensor, second: Tensor, temperature: number, what: string): void {
  checkPaired(first, second, what);
  checkNumber(temperature, `${what}: temperature`, { above: true });
  if (first.sizeOf(0) < 2) throw new InvalidArgumentError(`${what}: a batch of one pair holds no negatives`);
}

/**
 * Which share of a row's penalty falls on each negative (Wang and Liu 2021, "Understanding the Behaviour of Contrastive Loss"): the gradient of
 * InfoNCE by a negative's similarity over that by the positive's.
 *
 *     rᵢⱼ = exp(sᵢⱼ/τ) / Σ_{k≠i} exp(sᵢₖ/τ)
 *
 * Low temperatures put all of it on the nearest. A matrix is made; no gradient is recorded.
 *
 * @param first [N, D], N at least 2
 * @param second [N, D]: row i is the positive of row i
 * @returns [N, N], 0 on the diagonal, rows sum to 1
 * @throws InvalidArgumentError if shapes do not fit
 */
export function penaltyShares(
  first: Tensor,
  second: Tensor,
  options: Omit<NegativeShareOptions, 'execution'> = {},
): Tensor {
  const { temperature = 0.07 } = options;
  checkNegatives(first, second, temperature, 'penaltyShares');
  return withoutAutocast(first, () =>
    noGrad(() => {
      const [x, y] = widened(first, second);
      return similarityMatrix(x, y).div(temperature).fillDiagonal_(-Infinity).softmax(1);
    }),
  );
}

/**
 * The entropy of each row of {@link penaltyShares}, in nats: log(N − 1) where all negatives press alike, near 0 where only the nearest does.
 * It needs no matrix: with F(τ) = log Σ exp(s/τ) the entropy is F + τ·F′.
 *
 * @param first [N, D], N at least 2
 * @param second [N, D]: row i is the positive of row i
 * @returns [N], without gradient
 * @throws InvalidArgumentError if shapes do not fit
 */
export function negativeShareEntropy(first: Tensor, second: Tensor, options: NegativeShareOptions = {}): Tensor {
  const { temperature = 0.07, execution } = options;
  checkNegatives(first, second, temperature, 'negativeShareEntropy');
  const [anchors, embeddings] = widened(first.detach(), second.detach());
  const labels = positionsOf(anchors.sizeOf(0), anchors);
  return scope(() =>
    enableGrad(() => {
      const temperatures = anchors.newFull([anchors.sizeOf(0)], temperature).requiresGrad_();
      const sums = contrast({
        anchors,
        candidates: { embeddings, labels },
        labels,
        temperature: temperatures,
        link: partitionLink,
        reduction: 'none',
        execution,
      });
      const [slope] = grad(sums.sum(), [temperatures]);
      return sums.detach().add(slope!.mul(temperature)).clampMin(0);
    }),
  );
}

/** What {@link tolerance} takes beside the embeddings. */
export interface ToleranceOptions {
  /**
   * What is divided by: the pairs of one class, `'class'` (default), or `'all'` pairs, which is the expectation of the product with the
   * indicator that the paper writes, and depends on how many classes there are.
   */
  over?: 'class' | 'all';
  execution?: Execution | 'auto';
}

/**
 * Tolerance (Wang and Liu 2021, "Understanding the Behaviour of Contrastive Loss"): how alike samples of one class are, the mean cosine of two of
 * them. A low temperature lowers it as it lowers the uniformity loss. A sample's pair with itself does not count.
 *
 * @param embeddings [N, D]
 * @param labels int64 [N]
 * @returns the tolerance, without dimensions and gradient; 0 if no two samples share a class
 * @throws InvalidArgumentError if shapes do not fit
 */
export function tolerance(embeddings: Tensor, labels: Tensor, options: ToleranceOptions = {}): Tensor {
  const { over = 'class', execution } = options;
  checkEmbeddings(embeddings, 'tolerance: embeddings');
  const count = embeddings.sizeOf(0);
  checkIds(labels, count, 'tolerance: labels', embeddings);
  const ids = positionsOf(count, embeddings);
  return scope(() =>
    noGrad(() => {
      let pairs: Tensor | undefined;
      const sums = defineLink({
        name: 'sum over a class',
        needs: { sum: { kind: 'sum', over: 'positives' }, count: { kind: 'count', over: 'positives' } },
        loss: (values) => {
          pairs = values.count.sum();
          return values.sum;
        },
        withoutPositives: true,
      });
      const anchors = embeddings.detach();
      const sum = contrast({
        anchors,
        candidates: { embeddings: anchors, labels, ids },
        labels,
        ids,
        temperature: 1,
        link: sums,
        reduction: 'sum',
        execution,
      });
      return sum.div(over === 'class' ? pairs!.clampMin(1) : Math.max(1, count * (count - 1)));
    }),
  );
}
