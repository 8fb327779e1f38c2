/** Statistics of a matrix of scores, for each row or column: what every objective here is made of. */
import { InvalidArgumentError, ops, torch, type Tensor } from '../torch';
import { maskedLogSumExp, softplus } from './logarithms';

/** Which pairs count. */
export type PairSet = 'positives' | 'negatives' | 'all';

/**
 * What is computed over the scores s of a set of pairs, for each row or each column:
 *
 * | kind | value |
 * |---|---|
 * | `logSumExp` | log Σ exp(p·s), with the columns' weights w added to p·s if `weighted`; −∞ over no pair |
 * | `sum` | Σ s |
 * | `sumOfSquares` | Σ s² |
 * | `softplus` | Σ log(1 + exp(p·(s − o))) |
 * | `hinge` | Σ max(0, p·(s − o)) |
 * | `count` | how many pairs; no gradient |
 * | `maximum` | the greatest s, −∞ over no pair; no gradient |
 *
 * p is the `power` (default 1) and o the `offset`.
 */
export interface Statistic {
  readonly kind: keyof typeof kindCodes;
  readonly over: PairSet;
  /** Default `'rows'`. */
  readonly axis?: 'rows' | 'columns';
  /** By which scores are multiplied: positive for `logSumExp`, any but 0 for `softplus` and `hinge`. */
  readonly power?: number;
  /** Whether the columns' log-weights count, for `logSumExp`. */
  readonly weighted?: boolean;
  /** o, a number a row [N], with or without gradient; for `softplus` and `hinge` over rows. */
  readonly offset?: Tensor;
  /**
   * Only so many of a row's pairs in the set count: those with the greatest s, and those that equal the last of them. Over rows, without
   * log-weights. Default: all.
   */
  readonly top?: number;
}

/**
 * Pairs of rows and columns with their scores s[i][j] = rows[i]·columns[j] + bias, less `margin` where the pair is positive.
 *
 * A pair is excluded where the ids agree; else positive where the labels agree; else it is a negative, or excluded too where the guide's
 * score of the pair is above the row's limit. Without labels no pair is positive.
 */
export interface Pairs {
  /** [N, D] */
  readonly rows: Tensor;
  /** [M, D] */
  readonly columns: Tensor;
  /** One number, with or without gradient. */
  readonly bias?: Tensor;
  readonly margin?: number;
  /** int64 [N] and [M] */
  readonly rowLabels?: Tensor;
  readonly columnLabels?: Tensor;
  /** int64 [N] and [M] */
  readonly rowIds?: Tensor;
  readonly columnIds?: Tensor;
  /** Another model's embeddings of the same rows and columns, [N, E] and [M, E], and the limits of their dot products, [N]. */
  readonly rowGuides?: Tensor;
  readonly columnGuides?: Tensor;
  readonly guideLimits?: Tensor;
  /** Log-weights of the columns, [M]. */
  readonly columnWeights?: Tensor;
  /**
   * In [0, 1). Above 0, a tile whose slopes are all smaller than this share of their row's gradient gives none to rows and columns. For
   * statistics over rows, in the tiled form; the dense form is always exact. Default 0: exact.
   */
  readonly gradientFilter?: number;
}

/** How the scores are gone through: the whole matrix at once in LibTorch's operators, or tile by tile in one of ours. */
export type Execution = 'dense' | 'tiled';

/** As native/contrast/statistics.h has them. */
const kindCodes = { logSumExp: 0, sum: 1, sumOfSquares: 2, softplus: 3, hinge: 4, count: 5, maximum: 6 } as const;
const setCodes = { positives: 1, negatives: 2, all: 3 } as const;

/**
 * @returns one tensor a statistic, [N] or [M], in float64 for float64 rows and float32 for others
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function pairStatistics(pairs: Pairs, wanted: readonly Statistic[], execution: Execution): Tensor[] {
  return execution === 'tiled' ? tiledStatistics(pairs, wanted) : denseStatistics(pairs, wanted);
}

/** @internal `byBlocks`: by LibTorch's own operators, as on every device but the CPU. */
export function tiledStatistics(pairs: Pairs, wanted: readonly Statistic[], byBlocks = false): Tensor[] {
  const results = ops.kontrast!.pair_statistics!(
    pairs.rows,
    pairs.columns,
    pairs.bias ?? null,
    pairs.margin ?? 0,
    pairs.rowLabels ?? null,
    pairs.columnLabels ?? null,
    pairs.rowIds ?? null,
    pairs.columnIds ?? null,
    pairs.rowGuides ?? null,
    pairs.columnGuides ?? null,
    pairs.guideLimits ?? null,
    pairs.columnWeights ?? null,
    wanted.map(({ kind }) => kindCodes[kind]),
    wanted.map(({ axis }) => (axis === 'columns' ? 1 : 0)),
    wanted.map(({ over }) => setCodes[over]),
    wanted.map(({ power }) => power ?? 1),
    wanted.map(({ weighted }) => weighted ?? false),
    wanted.map(({ top }) => top ?? 0),
    wanted.map(({ offset }) => offset ?? null),
    pairs.gradientFilter ?? 0,
    byBlocks,
  );
  return results as Tensor[];
}

/** The pairs of each set, as bool matrices [N, M]; null for all pairs. */
export type PairMasks = Readonly<Record<PairSet, Tensor | null>>;

/** @internal Which pairs are in which set. Of the rows and columns only how many there are matters. */
export function masksOf(pairs: Pairs): PairMasks {
  const agree = (a: Tensor | undefined, b: Tensor | undefined): Tensor | null =>
    a === undefined || b === undefined ? null : a.unsqueeze(1).eq(b.unsqueeze(0));
  const excluded = agree(pairs.rowIds, pairs.columnIds);
  let positives = agree(pairs.rowLabels, pairs.columnLabels);
  let all = excluded === null ? null : excluded.logicalNot();
  if (positives !== null && all !== null) positives = positives.logicalAnd(all);
  let negatives = positives === null ? all : positives.logicalNot();
  if (positives !== null && all !== null) negatives = negatives!.logicalAnd(all);
  if (pairs.rowGuides !== undefined && pairs.columnGuides !== undefined && pairs.guideLimits !== undefined) {
    const { dtype } = pairs.rows;
    const wide = (x: Tensor): Tensor => x.detach().to({ dtype: dtype === 'float64' ? dtype : 'float32' });
    const guides = wide(pairs.rowGuides).matmul(wide(pairs.columnGuides).t());
    const allowed = guides.le(wide(pairs.guideLimits).unsqueeze(1));
    negatives = negatives === null ? allowed : negatives.logicalAnd(allowed);
    all = positives === null ? negatives : positives.logicalOr(negatives);
  }
  const { rows, columns } = pairs;
  const none = (): Tensor =>
    torch.zeros([1, 1], { dtype: 'bool', device: rows.device }).expand([rows.sizeOf(0), columns.sizeOf(0)]);
  return { positives: positives ?? none(), negatives, all };
}

/** The scores and the class of each pair, as matrices [N, M]. */
function matricesOf(pairs: Pairs): { scores: Tensor; masks: PairMasks } {
  const dtype = pairs.rows.dtype === 'float64' ? 'float64' : 'float32';
  const wide = (x: Tensor): Tensor => x.to({ dtype });
  const masks = masksOf(pairs);
  let scores = wide(pairs.rows).matmul(wide(pairs.columns).t());
  if (pairs.bias !== undefined) scores = scores.add(wide(pairs.bias));
  if (pairs.margin) scores = scores.sub(masks.positives!.to({ dtype }).mul(pairs.margin));
  return { scores, masks };
}

function denseStatistics(pairs: Pairs, wanted: readonly Statistic[]): Tensor[] {
  const { scores, masks } = matricesOf(pairs);
  const weights = pairs.columnWeights?.detach().to({ dtype: scores.dtype });
  return wanted.map((statistic) => statisticOf(scores, masks[statistic.over], statistic, weights));
}

/** Of the pairs that the mask leaves, those of a row with the `top` greatest scores, and those that equal the last of them. */
function topOf(scores: Tensor, mask: Tensor | null, top: number): Tensor | null {
  if (top >= scores.sizeOf(1)) return mask;
  const left = mask === null ? scores : scores.maskedFill(mask.logicalNot(), -Infinity);
  const [greatest] = left.topk(top, 1);
  const isAbove = scores.ge(greatest.narrow(1, top - 1, 1));
  return mask === null ? isAbove : isAbove.logicalAnd(mask);
}

/** @internal A statistic over the scores that the mask leaves, null for all; of what else it asks, its set is not looked at. */
export function statisticOf(
  scores: Tensor,
  mask: Tensor | null,
  { kind, axis, power = 1, weighted, offset, top }: Statistic,
  weights?: Tensor,
): Tensor {
  const along = axis === 'columns' ? 0 : 1;
  if (top !== undefined) mask = topOf(scores.detach(), mask, top);
  const only = (x: Tensor): Tensor => (mask === null ? x : torch.where(mask, x, x.newZeros([]))).sum([along]);
  const moved = (): Tensor => (offset === undefined ? scores : scores.sub(offset.unsqueeze(1))).mul(power);
  switch (kind) {
    case 'logSumExp': {
      const x = scores.mul(power);
      return maskedLogSumExp(weighted === true && weights !== undefined ? x.add(weights) : x, mask, along);
    }
    case 'sum':
      return only(scores);
    case 'sumOfSquares':
      return only(scores.square());
    case 'softplus':
      return only(softplus(moved()));
    case 'hinge':
      return only(moved().relu());
    case 'count':
      return only(torch.onesLike(scores.detach()));
    case 'maximum': {
      const values = scores.detach();
      return (mask === null ? values : values.maskedFill(mask.logicalNot(), -Infinity)).amax([along]);
    }
  }
}

/** What is wrong with a list of statistics, said before anything is computed. */
export function checkStatistics(wanted: readonly Statistic[]): void {
  for (const { kind, power = 1, offset, axis, top, weighted } of wanted) {
    if (top !== undefined && (!Number.isSafeInteger(top) || top < 1)) {
      throw new InvalidArgumentError(`the top of a ${kind} must be a positive integer, found ${String(top)}`);
    }
    if (top !== undefined && (axis === 'columns' || weighted === true)) {
      throw new InvalidArgumentError(`a ${kind} with a top is over rows and without weights`);
    }
    if (!Number.isFinite(power) || power === 0 || (kind === 'logSumExp' && power < 0)) {
      throw new InvalidArgumentError(`the power of a ${kind} cannot be ${String(power)}`);
    }
    if (offset !== undefined && (axis === 'columns' || (kind !== 'softplus' && kind !== 'hinge'))) {
      throw new InvalidArgumentError(`a ${kind} over ${axis ?? 'rows'} takes no offset`);
    }
  }
}
