/** Statistics of a matrix of scores, for each row or column: what every objective here is made of. */
import { InvalidArgumentError, ops, torch, type Tensor } from '../torch';

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
    wanted.map(({ offset }) => offset ?? null),
    byBlocks,
  );
  return results as Tensor[];
}

/** The scores and the class of each pair, as matrices [N, M]. */
interface Matrices {
  readonly scores: Tensor;
  /** The pairs of a set; null for all of them. */
  readonly masks: Readonly<Record<PairSet, Tensor | null>>;
}

function matricesOf(pairs: Pairs): Matrices {
  const dtype = pairs.rows.dtype === 'float64' ? 'float64' : 'float32';
  const wide = (x: Tensor): Tensor => x.to({ dtype });
  let scores = wide(pairs.rows).matmul(wide(pairs.columns).t());
  const agree = (a: Tensor | undefined, b: Tensor | undefined): Tensor | null =>
    a === undefined || b === undefined ? null : a.unsqueeze(1).eq(b.unsqueeze(0));
  const excluded = agree(pairs.rowIds, pairs.columnIds);
  let positives = agree(pairs.rowLabels, pairs.columnLabels);
  let all = excluded === null ? null : excluded.logicalNot();
  if (positives !== null && all !== null) positives = positives.logicalAnd(all);
  let negatives = positives === null ? all : positives.logicalNot();
  if (positives !== null && all !== null) negatives = negatives!.logicalAnd(all);
  if (pairs.rowGuides !== undefined && pairs.columnGuides !== undefined && pairs.guideLimits !== undefined) {
    const guides = wide(pairs.rowGuides.detach()).matmul(wide(pairs.columnGuides.detach()).t());
    const allowed = guides.le(wide(pairs.guideLimits.detach()).unsqueeze(1));
    negatives = negatives === null ? allowed : negatives.logicalAnd(allowed);
    all = positives === null ? negatives : positives.logicalOr(negatives);
  }
  if (pairs.bias !== undefined) scores = scores.add(wide(pairs.bias));
  if (positives !== null && pairs.margin) scores = scores.sub(positives.to({ dtype }).mul(pairs.margin));
  const none = positives ?? torch.zeros([1, 1], { dtype: 'bool', device: scores.device }).expandAs(scores);
  return { scores, masks: { positives: none, negatives, all } };
}

function denseStatistics(pairs: Pairs, wanted: readonly Statistic[]): Tensor[] {
  const { scores, masks } = matricesOf(pairs);
  return wanted.map(({ kind, over, axis, power = 1, weighted, offset }) => {
    const along = [axis === 'columns' ? 0 : 1];
    const mask = masks[over];
    const only = (x: Tensor): Tensor => (mask === null ? x : torch.where(mask, x, x.newZeros([]))).sum(along);
    const moved = (): Tensor => (offset === undefined ? scores : scores.sub(offset.unsqueeze(1))).mul(power);
    switch (kind) {
      case 'logSumExp': {
        const x = scores.mul(power);
        const weights = weighted === true ? pairs.columnWeights : undefined;
        return maskedLogSumExp(weights === undefined ? x : x.add(weights.detach().to({ dtype: x.dtype })), mask, along);
      }
      case 'sum':
        return only(scores);
      case 'sumOfSquares':
        return only(scores.square());
      case 'softplus':
        return only(moved().neg().logSigmoid().neg());
      case 'hinge':
        return only(moved().relu());
      case 'count':
        return only(torch.onesLike(scores.detach()));
      case 'maximum': {
        const values = scores.detach();
        return (mask === null ? values : values.maskedFill(mask.logicalNot(), -Infinity)).amax(along);
      }
    }
  });
}

/** The gradient of LibTorch's logsumexp over nothing but −∞ is no number, so rows without a pair are left out of it. */
function maskedLogSumExp(x: Tensor, mask: Tensor | null, along: number[]): Tensor {
  if (mask === null) return x.logsumexp(along);
  const any = mask.any(along[0]!, true);
  const left = x.maskedFill(mask.logicalNot().logicalAnd(any), -Infinity);
  return torch.where(any.squeeze(along[0]!), left.logsumexp(along), x.newZeros([]).sub(Infinity));
}

/** What is wrong with a list of statistics, said before anything is computed. */
export function checkStatistics(wanted: readonly Statistic[]): void {
  for (const { kind, power = 1, offset, axis } of wanted) {
    if (!Number.isFinite(power) || power === 0 || (kind === 'logSumExp' && power < 0)) {
      throw new InvalidArgumentError(`the power of a ${kind} cannot be ${String(power)}`);
    }
    if (offset !== undefined && (axis === 'columns' || (kind !== 'softplus' && kind !== 'hinge'))) {
      throw new InvalidArgumentError(`a ${kind} over ${axis ?? 'rows'} takes no offset`);
    }
  }
}
