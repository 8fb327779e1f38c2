import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { distancesOf, mined, whereTrue, type MinerBatch, type MinerOptions, type Prepared } from './miner';
import type { PairIndices } from './pairs-and-triplets';

/** Which positive or negative an anchor gets: see {@link batchEasyHard}. */
export type BatchStrategy = 'hard' | 'semihard' | 'easy' | 'all';

/** What {@link batchEasyHard} takes. */
export interface BatchEasyHardOptions extends MinerOptions {
  /** Default: `'easy'`. */
  positive?: BatchStrategy;
  /** Default: `'semihard'`. */
  negative?: BatchStrategy;
  /** The distances that a positive may have, both ends included. Default: any. */
  positiveRange?: readonly [least: number, most: number];
  /** The distances that a negative may have, both ends included. Default: any. */
  negativeRange?: readonly [least: number, most: number];
}

const STRATEGIES: readonly string[] = ['hard', 'semihard', 'easy', 'all'] satisfies BatchStrategy[];

/**
 * One positive and one negative of each anchor, each chosen by a strategy:
 *
 *     hard:      the farthest positive, the nearest negative
 *     easy:      the nearest positive, the farthest negative
 *     semihard:  the nearest negative that is farther than the chosen positive, or the farthest positive nearer than the chosen negative
 *     all:       every pair
 *
 * (the choices of Xuan, Stylianou, Liu and Pless 2020, "Improved Embeddings with Easy Positive Triplet Mining"). An anchor that lacks
 * either gives no pair; with `'all'` on one side, each side stands for itself. Of equal distances the choice is any. Checked against the
 * golden values of an independent library.
 *
 * For trying out which of the combinations a data set wants; {@link batchHard} and the others are presets of it.
 *
 * @throws InvalidArgumentError naming what does not fit: `'semihard'` twice, or beside `'all'`, has nothing to go by
 */
export function batchEasyHard(batch: MinerBatch, options: BatchEasyHardOptions = {}): PairIndices {
  return easyHard(batch, options, 'batchEasyHard');
}

/** {@link batchEasyHard} under another name. */
export function easyHard(batch: MinerBatch, options: BatchEasyHardOptions, what: string): PairIndices {
  const { positive = 'easy', negative = 'semihard' } = options;
  for (const [name, strategy] of Object.entries({ positive, negative })) {
    if (!STRATEGIES.includes(strategy)) {
      throw new InvalidArgumentError(
        `${what}: ${name} must be one of ${STRATEGIES.join(', ')}, found '${String(strategy)}'`,
      );
    }
  }
  const strategies = [positive, negative];
  if (strategies.includes('semihard') && (positive === negative || strategies.includes('all'))) {
    throw new InvalidArgumentError(
      `${what}: 'semihard' goes by the other choice, which must be 'hard' or 'easy': positive is '${positive}', negative '${negative}'`,
    );
  }
  for (const name of ['positiveRange', 'negativeRange'] as const) {
    const [least, most] = options[name] ?? [0, 0];
    if (!(least <= most)) {
      throw new InvalidArgumentError(`${what}: ${name} must be [least, most], found [${least}, ${most}]`);
    }
  }
  return mined(batch, options, what, (prepared) => pairs(prepared, { ...options, positive, negative }));
}

function pairs(prepared: Prepared, options: BatchEasyHardOptions): PairIndices {
  const distances = distancesOf(prepared, options);
  const within = (mask: Tensor, range: readonly [number, number] | undefined): Tensor =>
    range === undefined ? mask : mask.logicalAnd(distances.ge(range[0])).logicalAnd(distances.le(range[1]));
  const positives = within(prepared.positives, options.positiveRange);
  const negatives = within(prepared.negatives, options.negativeRange);
  const farthest = (mask: Tensor): Choice => choose(distances, mask, true);
  const nearest = (mask: Tensor): Choice => choose(distances, mask, false);
  const { positive, negative } = options;

  let p: Choice | undefined;
  let n: Choice | undefined;
  if (positive === 'hard') p = farthest(positives);
  if (positive === 'easy') p = nearest(positives);
  if (negative === 'hard') n = nearest(negatives);
  if (negative === 'easy') n = farthest(negatives);
  if (positive === 'semihard') p = farthest(positives.logicalAnd(distances.lt(n!.distance.unsqueeze(1))));
  if (negative === 'semihard') n = nearest(negatives.logicalAnd(distances.gt(p!.distance.unsqueeze(1))));

  if (p !== undefined && n !== undefined) {
    const anchors = p.has.logicalAnd(n.has).nonzero().squeeze(1);
    return {
      anchors1: anchors,
      positives: p.index.indexSelect(0, anchors),
      anchors2: anchors.clone(),
      negatives: n.index.indexSelect(0, anchors),
    };
  }
  const [anchors1, positive1] = p === undefined ? whereTrue(prepared.positives) : chosen(p);
  const [anchors2, negative2] = n === undefined ? whereTrue(prepared.negatives) : chosen(n);
  return { anchors1, positives: positive1, anchors2, negatives: negative2 };
}

/** Each anchor's choice: which row, how far it is, and whether there is one. */
interface Choice {
  index: Tensor;
  distance: Tensor;
  has: Tensor;
}

function choose(distances: Tensor, mask: Tensor, largest: boolean): Choice {
  const masked = torch.where(mask, distances, distances.newFull([], largest ? -Infinity : Infinity));
  const index = largest ? masked.argmax(1) : masked.argmin(1);
  return { index, distance: masked.gather(1, index.unsqueeze(1)).squeeze(1), has: mask.any(1) };
}

function chosen({ index, has }: Choice): [Tensor, Tensor] {
  const anchors = has.nonzero().squeeze(1);
  return [anchors, index.indexSelect(0, anchors)];
}

/** Pairs of which each anchor has one of either kind, as triplets. */
export function asTriplets({ anchors1, positives, negatives }: PairIndices): {
  anchors: Tensor;
  positives: Tensor;
  negatives: Tensor;
} {
  return { anchors: anchors1, positives, negatives };
}
