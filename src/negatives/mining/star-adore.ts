import { positiveInteger } from '../../nn/checks';
import {
  InvalidArgumentError,
  joinStates,
  keep,
  noGrad,
  partOfState,
  scope,
  torch,
  type Generator,
  type StateDict,
  type Tensor,
} from '../../torch';
import { Randomised } from '../randomised';
import { checkRange } from './ance-tele';
import { checkMatrix, checkTensor } from './miner';
import { checkPositives, drawPlaces, evenly, isAmong, rankedNegatives } from './negative-pool';
import type { SearchIndex } from './search-index';

/** What a {@link STAR} is made from. */
export interface STAROptions {
  /** How many training queries there are. */
  queries: number;
  /** How many hard negatives a query keeps. Default: 200. */
  depth?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/**
 * STAR (Zhan et al. 2021, "Optimizing Dense Retrieval Model Training with Hard Negatives"): hard negatives that are mined once, with a warmed-up encoder,
 * and stay the same, beside the random ones that the rest of the batch is. {@link starLoss} is its loss.
 *
 * For stable training of both towers; its result is where {@link adoreSearch} starts from.
 */
export class STAR extends Randomised {
  /** int64 [queries, depth], best first; −1 where there is none. On the CPU. */
  readonly #hard: Tensor;

  constructor(options: STAROptions) {
    const { queries, depth = 200, seed = 0 } = options;
    super('STAR', seed);
    const shape = [positiveInteger(queries, 'STAR: queries'), positiveInteger(depth, 'STAR: depth')];
    this.#hard = scope(() => keep(torch.full(shape, -1, { dtype: 'int64' })));
  }

  /**
   * Mines the hard negatives of some queries.
   *
   * @param rows which training queries, int64 [N], distinct
   * @param queries [N, D]
   * @param positives ids of the documents that are no negatives: int64 [N] or [N, P], −1 for none
   * @throws InvalidArgumentError if something does not fit, before anything changes
   */
  mine(index: SearchIndex, rows: Tensor, queries: Tensor, positives: Tensor): void {
    checkMatrix(queries, 'STAR: queries');
    checkTensor(rows, [queries.sizeOf(0)], 'int64', 'STAR: rows');
    checkRange(rows, this.#hard.sizeOf(0), true, 'STAR: rows');
    const own = checkPositives(positives, queries, 'STAR');
    noGrad(() => {
      scope(() => {
        const { ids } = rankedNegatives(index, queries, own, this.#hard.sizeOf(1));
        this.#hard.indexCopy_(0, rows.to({ device: 'cpu' }), ids.to({ device: 'cpu' }));
      });
    });
  }

  /**
   * Draws hard negatives, each equally likely, without repetition.
   *
   * @param rows which training queries, int64 [N]
   * @param count how many each, K. Default: 1
   * @returns ids, int64 [N, K], on the device of `rows`; −1 where there are fewer
   */
  sample(rows: Tensor, count = 1): Tensor {
    positiveInteger(count, 'STAR: count');
    checkTensor(rows, [rows.sizeOf(0)], 'int64', 'STAR: rows');
    checkRange(rows, this.#hard.sizeOf(0), false, 'STAR: rows');
    return noGrad(() =>
      scope(() => {
        const hard = this.#hard.indexSelect(0, rows.to({ device: 'cpu' }));
        const places = drawPlaces(evenly(hard), count, this.generator);
        return hard.gather(1, places.clampMin(0)).maskedFill_(places.lt(0), -1).to({ device: rows.device });
      }),
    );
  }

  /** The hard negatives and the random numbers. */
  override stateDict(): StateDict {
    const hard = { tensors: new Map([['ids', this.#hard.detach()]]), values: null };
    return joinStates({ hard, draws: super.stateDict() });
  }

  override checkStateDict(state: StateDict): void {
    super.checkStateDict(partOfState(state, 'draws'));
    const ids = partOfState(state, 'hard').tensors.get('ids');
    if (ids === undefined) throw new InvalidArgumentError("STAR: the state dict lacks 'hard.ids'");
    checkTensor(ids, this.#hard.shape, 'int64', "STAR: the state dict: 'hard.ids'");
  }

  override loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    this.generator.setState(partOfState(state, 'draws').tensors.get('generator')!);
    noGrad(() => {
      this.#hard.copy_(partOfState(state, 'hard').tensors.get('ids')!).dispose();
    });
  }
}

/** What {@link starLoss} takes. */
export interface STARLossOptions {
  /** [N, D] */
  queries: Tensor;
  /** [N, D]: row i is the positive of query i. */
  positives: Tensor;
  /** [M, D]: the hard negatives of all queries of the batch. Default: none. */
  negatives?: Tensor;
  /** Ids of the positives, int64 [N]: with `relevant`, what is a positive of another query is left out. */
  positiveIds?: Tensor;
  /** Ids of the negatives, int64 [M]. */
  negativeIds?: Tensor;
  /** Ids of each query's positives, int64 [N, P], −1 for none. Needs the other ids. */
  relevant?: Tensor;
}

/**
 * The loss of STAR (Zhan et al. 2021): a softmax over two for each query and each document that is not its positive, the other queries' positives
 * and all hard negatives of the batch alike:
 *
 *     loss = mean over (i, j) of softplus( qᵢ·dⱼ − qᵢ·dᵢ⁺ ),   dⱼ no positive of i
 *
 * It is not InfoNCE: each pair stands for itself. 0 if there is no pair. Checked against the authors' code.
 *
 * @throws InvalidArgumentError naming what does not fit
 */
export function starLoss(options: STARLossOptions): Tensor {
  const { queries, positives, negatives, positiveIds, negativeIds, relevant } = options;
  checkMatrix(queries, 'starLoss: queries');
  const [count, dimension] = [queries.sizeOf(0), queries.sizeOf(1)];
  checkTensor(positives, [count, dimension], positives.dtype, 'starLoss: positives');
  const others = negatives?.sizeOf(0) ?? 0;
  if (negatives !== undefined) checkTensor(negatives, [others, dimension], negatives.dtype, 'starLoss: negatives');
  if (relevant !== undefined) {
    checkTensor(relevant, [count, relevant.ndim === 2 ? relevant.sizeOf(1) : 1], 'int64', 'starLoss: relevant');
    if (positiveIds === undefined || (negatives !== undefined && negativeIds === undefined)) {
      throw new InvalidArgumentError('starLoss: relevant needs positiveIds, and negativeIds where there are negatives');
    }
    checkTensor(positiveIds, [count], 'int64', 'starLoss: positiveIds');
    if (negativeIds !== undefined) checkTensor(negativeIds, [others], 'int64', 'starLoss: negativeIds');
  }
  return scope(() => {
    const documents = negatives === undefined ? positives : torch.cat([positives, negatives]);
    const scores = queries.matmul(documents.t());
    const own = queries.mul(positives).sum([1], true);
    const isOwn = torch.eye(count, count + others, { dtype: 'bool', device: queries.device });
    let out = isOwn;
    if (relevant !== undefined) {
      const ids = negatives === undefined ? positiveIds! : torch.cat([positiveIds!, negativeIds!]);
      out = isOwn.logicalOr(isAmong(ids.unsqueeze(0).expand([count, count + others]), relevant));
    }
    const pairs = scores.sub(own).softplus().maskedFill(out, 0);
    return pairs.sum().div(out.logicalNot().sum().clampMin(1));
  });
}

/** What {@link adoreSearch} finds. */
export interface ADORERanking {
  /** int64 [N, k + P]: the k best documents, then, where none of these is a positive, the positives. −1 for none. */
  ids: Tensor;
  /** bool [N, k + P] */
  relevant: Tensor;
}

/**
 * The ranking of ADORE (Zhan et al. 2021, "Optimizing Dense Retrieval Model Training with Hard Negatives"): the documents tower is frozen, and in every step
 * the batch's queries are searched for in its index, so that negatives are always those of the present query encoder. If no positive is
 * among the k best, the positives are put behind them. {@link adoreLoss} is its loss. Checked against the authors' code.
 *
 * It has no state but the index, which does not change.
 *
 * For the last stage of retrieval training, on queries alone.
 *
 * @param positives ids, int64 [N] or [N, P], −1 for none
 * @param depth k. Default: 200
 * @throws InvalidArgumentError naming what does not fit
 */
export function adoreSearch(index: SearchIndex, queries: Tensor, positives: Tensor, depth = 200): ADORERanking {
  checkMatrix(queries, 'adoreSearch: queries');
  positiveInteger(depth, 'adoreSearch: depth');
  const own = checkPositives(positives, queries, 'adoreSearch');
  return noGrad(() =>
    scope(() => {
      const { ids } = index.search(queries, depth);
      const relevant = isAmong(ids, own).logicalAnd(ids.ge(0));
      const isFound = relevant.any(1, true);
      const behind = own.maskedFill(isFound, -1);
      return { ids: torch.cat([ids, behind], 1), relevant: torch.cat([relevant, behind.ge(0)], 1) };
    }),
  );
}

/** What {@link adoreLoss} takes. */
export interface ADORELossOptions {
  /** [N, D] */
  queries: Tensor;
  /** [N, C, D]: the documents in the order of their ranks. What stands where there is none does not matter. */
  documents: Tensor;
  /** What {@link adoreSearch} gave, [N, C]. */
  ranking: ADORERanking;
  /** Whether pairs weigh what their exchange would change in the reciprocal rank. Default: true. */
  weighted?: boolean;
  /** Ranks from this one on count as 0 in weights. Default: none. */
  cut?: number;
}

/**
 * The loss of ADORE (Zhan et al. 2021): for every positive and every other document of a query's ranking
 *
 *     loss = mean over queries of mean over pairs (i, j) of |1/rᵢ − 1/rⱼ| · softplus( −(q·dᵢ − q·dⱼ) )
 *
 * with ranks r from 1, 1/r taken as 0 beyond `cut` (LambdaRank with the mean reciprocal rank). One stored version of the authors' code has the sign of
 * one half of the pairs the other way round, which does not train; here the gradient raises the positive's score. Queries without a pair
 * count as 0.
 *
 * @throws InvalidArgumentError naming what does not fit
 */
export function adoreLoss(options: ADORELossOptions): Tensor {
  const { queries, documents, ranking, weighted = true, cut } = options;
  const { ids, relevant } = ranking;
  checkMatrix(queries, 'adoreLoss: queries');
  const [count, dimension] = [queries.sizeOf(0), queries.sizeOf(1)];
  const width = ids.ndim === 2 ? ids.sizeOf(1) : 1;
  checkTensor(ids, [count, width], 'int64', 'adoreLoss: ranking.ids');
  checkTensor(relevant, [count, width], 'bool', 'adoreLoss: ranking.relevant');
  checkTensor(documents, [count, width, dimension], documents.dtype, 'adoreLoss: documents');
  if (cut !== undefined) positiveInteger(cut, 'adoreLoss: cut');
  return scope(() => {
    const there = ids.ge(0);
    const scores = documents.mul(queries.unsqueeze(1)).sum([2]).maskedFill(there.logicalNot(), 0);
    const isPair = relevant.unsqueeze(2).logicalAnd(there.logicalAnd(relevant.logicalNot()).unsqueeze(1));
    let losses = scores.unsqueeze(1).sub(scores.unsqueeze(2)).softplus();
    if (weighted) {
      const ranks = torch.arange(1, width + 1, { dtype: 'float64', device: queries.device });
      const reciprocal = ranks.reciprocal();
      const counted = cut === undefined ? reciprocal : reciprocal.maskedFill(ranks.gt(cut), 0);
      losses = losses.mul(counted.unsqueeze(1).sub(counted.unsqueeze(0)).abs().to({ dtype: scores.dtype }));
    }
    const pairs = isPair.sum([1, 2]);
    return losses.maskedFill(isPair.logicalNot(), 0).sum([1, 2]).div(pairs.clampMin(1)).mean();
  });
}
