/** Links: how an anchor's scores become its loss. */
import type { Tensor } from '../torch';
import { softplus, whereAny } from './logarithms';
import type { PairSet, Statistic } from './statistics';

/** A statistic that a link asks for, of the anchors' scores. Which way the matrix is gone through is not the link's to know. */
export type Need = Omit<Statistic, 'axis'>;

/** What a link is told beside the statistics. */
export interface LinkContext {
  /**
   * Further statistics of the same scores, for links whose second step needs what the first found, as an `offset`. It is one more pass through
   * the scores.
   */
  more<Names extends string>(needs: Readonly<Record<Names, Need>>): Record<Names, Tensor>;
}

/**
 * The last part of an objective: which statistics of an anchor's scores it needs and what loss they make.
 *
 * ```ts
 * // N-pair hinge: every negative should be a margin of 0.2 below the positive.
 * const hinge: Link = {
 *   name: 'hinge',
 *   needs: { own: { kind: 'sum', over: 'positives' } },
 *   loss: ({ own }, { more }) =>
 *     more({ all: { kind: 'hinge', over: 'negatives', offset: own.sub(0.2) } }).all,
 * };
 * ```
 */
export interface Link<Names extends string = string> {
  /** As messages name it. */
  readonly name: string;
  readonly needs: Readonly<Record<Names, Need>>;
  /**
   * The loss of each anchor, [N], from the statistics, [N] each. Anchors without a positive are left out afterwards, whatever it gives
   * for them, unless `withoutPositives` is set: then `count` of positives may be 0.
   */
  loss(values: Readonly<Record<Names, Tensor>>, context: LinkContext): Tensor;
  /** Whether the loss means something for an anchor without positives. Default: false. */
  readonly withoutPositives?: boolean;
}

/** Makes a link, whose names of statistics TypeScript then knows. */
export function defineLink<Names extends string>(link: Link<Names>): Link<Names> {
  return link;
}

const lse = (over: PairSet, more: Partial<Need> = {}): Need => ({ kind: 'logSumExp', over, ...more });

/**
 * The softmax over all candidates (InfoNCE, NT-Xent; SupCon with its sum outside the logarithm where there are several positives):
 *
 *     −1/|P| Σₚ log( exp(sₚ) / (Σₚ exp(sₚ) + Σₙ exp(sₙ)) )
 *
 * Computed as softplus(log Σₙ − log Σₚ) + log Σₚ − mean sₚ: what is small is not lost in a difference of large numbers.
 */
export const softmaxLink = defineLink({
  name: 'softmax',
  needs: {
    negatives: lse('negatives', { weighted: true }),
    positives: lse('positives'),
    sum: { kind: 'sum', over: 'positives' },
    count: { kind: 'count', over: 'positives' },
  },
  loss: ({ negatives, positives, sum, count }) => softplus(negatives.sub(positives)).add(positives.sub(sum.div(count))),
});

/**
 * The softmax with the sum over positives inside the logarithm (SupCon's other form, and the multi-positive InfoNCE of MIL-NCE):
 *
 *     −log( Σₚ exp(sₚ) / (Σₚ exp(sₚ) + Σₙ exp(sₙ)) )
 */
export const softmaxOfSumLink = defineLink({
  name: 'softmax of the sum',
  needs: { negatives: lse('negatives', { weighted: true }), positives: lse('positives') },
  loss: ({ negatives, positives }) => softplus(negatives.sub(positives)),
});

/** The softmax without the positives in its denominator (DCL, Yeh et al. 2022): −mean sₚ + log Σₙ exp(sₙ). */
export const decoupledLink = defineLink({
  name: 'decoupled softmax',
  needs: {
    negatives: lse('negatives', { weighted: true }),
    sum: { kind: 'sum', over: 'positives' },
    count: { kind: 'count', over: 'positives' },
  },
  // Without negatives there is nothing to keep apart.
  loss: ({ negatives, sum, count }) => whereAny(negatives, (some) => some.sub(sum.div(count))),
});

/** Each pair on its own (SigLIP, Zhai et al. 2023): Σₚ softplus(−sₚ) + Σₙ softplus(sₙ). */
export const sigmoidLink = defineLink({
  name: 'sigmoid',
  needs: {
    positives: { kind: 'softplus', over: 'positives', power: -1 },
    negatives: { kind: 'softplus', over: 'negatives' },
  },
  loss: ({ positives, negatives }) => positives.add(negatives),
  withoutPositives: true,
});
