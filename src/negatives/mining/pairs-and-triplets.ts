/** What miners give, how its forms become each other, and how it reaches a loss. */
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';

/** Pairs: `anchors1[i]` with the positive `positives[i]`, and `anchors2[j]` with the negative `negatives[j]`. All int64. */
export interface PairIndices {
  /** [P]: rows of the embeddings. */
  anchors1: Tensor;
  /** [P]: rows of the reference, or of the embeddings where there is none. */
  positives: Tensor;
  /** [R]: rows of the embeddings. */
  anchors2: Tensor;
  /** [R]: rows of the reference, or of the embeddings where there is none. */
  negatives: Tensor;
}

/** Triplets: `anchors[i]` shall be nearer to `positives[i]` than to `negatives[i]`. All int64 [T]. */
export interface TripletIndices {
  /** Rows of the embeddings. */
  anchors: Tensor;
  /** Rows of the reference, or of the embeddings where there is none. */
  positives: Tensor;
  /** Rows of the reference, or of the embeddings where there is none. */
  negatives: Tensor;
}

/** What any miner gives. */
export type MinedIndices = PairIndices | TripletIndices;

const isTriplets = (mined: MinedIndices): mined is TripletIndices => 'anchors' in mined;

/**
 * Triplets as pairs: one positive and one negative pair for each. A pair comes as often as it stands in a triplet, or once if `distinct`, and
 * then in the order of rows.
 */
export function pairsOf(mined: MinedIndices, { distinct = false }: { distinct?: boolean } = {}): PairIndices {
  return noGrad(() =>
    scope(() => {
      const { anchors1, positives, anchors2, negatives } = isTriplets(mined)
        ? { ...mined, anchors1: mined.anchors, anchors2: mined.anchors }
        : mined;
      if (!distinct) {
        // Each of its own: whoever gets them may free any of them.
        return {
          anchors1: anchors1.clone(),
          positives: positives.clone(),
          anchors2: anchors2.clone(),
          negatives: negatives.clone(),
        };
      }
      const [first, positive] = distinctRows(anchors1, positives);
      const [second, negative] = distinctRows(anchors2, negatives);
      return { anchors1: first, positives: positive, anchors2: second, negatives: negative };
    }),
  );
}

function distinctRows(a: Tensor, b: Tensor): [Tensor, Tensor] {
  const [rows] = torch.uniqueDim(torch.stack([a, b], 1), 0);
  return [rows.select(1, 0).contiguous(), rows.select(1, 1).contiguous()];
}

/**
 * Pairs as triplets: every positive pair with every negative pair of the same anchor, in the order of the positive pairs. Their number is the
 * sum over anchors of P · R.
 */
export function tripletsOf(mined: MinedIndices): TripletIndices {
  return noGrad(() =>
    scope(() => {
      if (isTriplets(mined)) {
        const { anchors, positives, negatives } = mined;
        return { anchors: anchors.clone(), positives: positives.clone(), negatives: negatives.clone() };
      }
      const { anchors1, positives, anchors2, negatives } = mined;
      if (anchors1.numel() === 0 || anchors2.numel() === 0) {
        const none = anchors1.newEmpty([0]);
        return { anchors: none, positives: none.clone(), negatives: none.clone() };
      }
      const { which, within, starts, order } = joined(anchors1, anchors2);
      const anchors = anchors1.indexSelect(0, which);
      const place = starts.indexSelect(0, anchors).add(within);
      return {
        anchors,
        positives: positives.indexSelect(0, which),
        negatives: negatives.indexSelect(0, order.indexSelect(0, place)),
      };
    }),
  );
}

/** For each left row all right rows of the same anchor: which left row, the how-manieth of its right rows, where an anchor's rows start in the order. */
function joined(left: Tensor, right: Tensor): { which: Tensor; within: Tensor; starts: Tensor; order: Tensor } {
  const size = torch.cat([left, right]).amax().add(1).itemSync() as number | bigint;
  const order = right.argsort({ stable: true });
  const counts = torch.bincount(right, null, Number(size));
  const starts = counts.cumsum(0).sub(counts);
  const repeats = counts.indexSelect(0, left);
  const which = torch.repeatInterleave(repeats);
  const ends = repeats.cumsum(0);
  const within = torch
    .arange(which.numel(), { dtype: 'int64', device: left.device })
    .sub(ends.sub(repeats).indexSelect(0, which));
  return { which, within, starts, order };
}

/** Which pairs were mined, as masks: what takes all pairs of a matrix of scores can be kept to these. */
export interface PairMasks {
  /** bool [N, M] */
  positives: Tensor;
  /** bool [N, M] */
  negatives: Tensor;
}

/**
 * The mined pairs as masks of a matrix of scores.
 *
 * @param count N, the number of anchors
 * @param candidates M, the number of rows that they are compared with. Default: N
 */
export function pairMasks(mined: MinedIndices, count: number, candidates = count): PairMasks {
  return noGrad(() =>
    scope(() => {
      const { anchors1, positives, anchors2, negatives } = pairsOf(mined);
      const mask = (rows: Tensor, columns: Tensor): Tensor => {
        const flat = torch.zeros([count * candidates], { dtype: 'bool', device: rows.device });
        return flat.indexFill(0, rows.mul(candidates).add(columns), true).view([count, candidates]);
      };
      return { positives: mask(anchors1, positives), negatives: mask(anchors2, negatives) };
    }),
  );
}

/** What {@link pairWeights} takes. */
export interface PairWeightsOptions {
  /** Which rows are counted: all that come in any pair, anchors alone (as with a reference), or one side of the reference. Default: `'all'`. */
  of?: 'all' | 'anchors' | 'positives' | 'negatives';
  /** Of the weights. Default: float32. */
  dtype?: 'float32' | 'float64';
}

/**
 * How often each row was mined, as weights for a loss that takes one a row:
 *
 *     wᵢ = countᵢ / maxⱼ countⱼ
 *
 * and 1 for all where nothing was mined.
 *
 * @param size how many rows there are
 * @returns [size]
 */
export function pairWeights(mined: MinedIndices, size: number, options: PairWeightsOptions = {}): Tensor {
  const { of = 'all', dtype = 'float32' } = options;
  return noGrad(() =>
    scope(() => {
      const anchors = isTriplets(mined) ? [mined.anchors] : [mined.anchors1, mined.anchors2];
      const parts = {
        all: [...anchors, mined.positives, mined.negatives],
        anchors,
        positives: [mined.positives],
        negatives: [mined.negatives],
      }[of];
      return shares(torch.cat(parts), size, dtype);
    }),
  );
}

/** @internal Counts of rows as shares of the largest, 1 where there is none. */
export function shares(rows: Tensor, size: number, dtype: 'float32' | 'float64'): Tensor {
  if (rows.numel() === 0) return torch.ones([size], { dtype, device: rows.device });
  const counts = torch.bincount(rows, null, size);
  if (counts.numel() > size) {
    throw new InvalidArgumentError(`weights: there are ${size} rows, and row ${counts.numel() - 1} was mined`);
  }
  return counts.to({ dtype }).div(counts.amax());
}

/** Anchors with own positives and negatives, as `contrast` takes them. */
export interface OwnPairs {
  /** [T, D] */
  anchors: Tensor;
  /** [T, D] */
  positives: Tensor;
  /** [T, K, D] */
  negatives: Tensor;
}

/**
 * Triplets as `contrast` takes them, each an anchor of its own with one positive and one negative: `contrast({ ...tripletRows(x, triplets) })`.
 * With a hinge as link it is the triplet loss. Gradients flow to all three.
 *
 * @param embeddings [N, D]: what was mined
 * @param reference [M, D]: the reference's embeddings, if there was one
 * @throws InvalidArgumentError if there are no triplets: then there is no loss
 */
export function tripletRows(embeddings: Tensor, triplets: TripletIndices, reference = embeddings): OwnPairs {
  if (triplets.anchors.numel() === 0) throw new InvalidArgumentError('tripletRows: there are no triplets');
  return scope(() => ({
    anchors: embeddings.indexSelect(0, triplets.anchors),
    positives: reference.indexSelect(0, triplets.positives),
    negatives: reference.indexSelect(0, triplets.negatives).unsqueeze(1),
  }));
}

/**
 * Pairs as `contrast` takes them: each positive pair an anchor of its own, with all negatives of its anchor, K being the most that one has.
 * Anchors with fewer are given theirs again, in turn, so that K is the same for all: in a softmax, these then count for more. Positive pairs of anchors
 * without negatives are left out.
 *
 * @param embeddings [N, D]: what was mined
 * @param reference [M, D]: the reference's embeddings, if there was one
 * @throws InvalidArgumentError if no anchor has a positive and a negative
 */
export function pairRows(embeddings: Tensor, pairs: PairIndices, reference = embeddings): OwnPairs {
  const rows = noGrad(() =>
    scope(() => {
      const { anchors1, positives, anchors2, negatives } = pairs;
      if (anchors1.numel() === 0 || anchors2.numel() === 0) return undefined;
      const size = Number(torch.cat([anchors1, anchors2]).amax().add(1).itemSync());
      const order = anchors2.argsort({ stable: true });
      const counts = torch.bincount(anchors2, null, size);
      const starts = counts.cumsum(0).sub(counts);
      const kept = counts.indexSelect(0, anchors1).gt(0).nonzero().squeeze(1);
      if (kept.numel() === 0) return undefined;
      const anchors = anchors1.indexSelect(0, kept);
      const own = counts.indexSelect(0, anchors);
      const turn = torch.arange(Number(own.amax().itemSync()), { dtype: 'int64', device: anchors.device });
      const places = starts
        .indexSelect(0, anchors)
        .unsqueeze(1)
        .add(turn.remainder(own.unsqueeze(1)));
      return {
        anchors,
        positives: positives.indexSelect(0, kept),
        negatives: negatives.take(order.take(places)),
      };
    }),
  );
  if (rows === undefined) throw new InvalidArgumentError('pairRows: no anchor has a positive and a negative');
  return scope(() => {
    const flat = reference.indexSelect(0, rows.negatives.flatten());
    return {
      anchors: embeddings.indexSelect(0, rows.anchors),
      positives: reference.indexSelect(0, rows.positives),
      negatives: flat.unflatten(0, [...rows.negatives.shape]),
    };
  });
}
