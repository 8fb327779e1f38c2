import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, noGrad, scope, type Generator, type Tensor } from '../../torch';
import { Randomised } from '../randomised';
import { ownScores } from './exact-search';
import { checkTensor } from './miner';
import { atPlaces, checkPositives, drawPlaces, rankedNegatives, type DocumentNegatives } from './negative-pool';
import type { SearchIndex } from './search-index';

/** How likely a document is by its score: see {@link SimANS}. */
export type SimANSForm =
  | { form: 'squared'; /** a. Default: 1. */ sharpness?: number; /** b. Default: 0. */ shift?: number }
  | { form: 'absolute'; /** τ. Default: 3, as in the authors' code. */ sharpness?: number };

/** What a {@link SimANS} is made from. */
export interface SimANSOptions {
  /** Default: `{ form: 'squared', sharpness: 1, shift: 0 }`. */
  weights?: SimANSForm;
  /** How many of a query's best documents negatives are drawn from. Default: 100. */
  depth?: number;
  /** Negatives of a query. Default: 1. */
  negatives?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/** What {@link SimANS.sample} draws for. */
export interface SimANSInput {
  /** [N, D] */
  queries: Tensor;
  /** The ids of documents that are no negatives: int64 [N] or [N, P], −1 for none. */
  positives: Tensor;
  /** [N, D]: each query's positive document, for its score. */
  positiveEmbeddings?: Tensor;
  /** [N]: its score, if it is known. */
  positiveScores?: Tensor;
}

/**
 * SimANS (Zhou et al. 2022, "SimANS: Simple Ambiguous Negatives Sampling for Dense Text Retrieval"): negatives are drawn from the best documents of a
 * query, those whose scores are near the positive's most often: neither too easy, nor so hard that they may be positives that nobody marked.
 *
 *     squared:   p(d) ∝ exp( −a · (s(q, d) − s(q, d⁺) − b)² )
 *     absolute:  p(d) ∝ exp( −τ · |s(q, d) − s(q, d⁺)| )
 *
 * without repetition. The paper's form is the squared one (from memory; the paper was not to be had), the authors' code has the absolute one with τ = 3.
 * Scores are the index's own, and both constants belong to their scale: for cosines, which differ by less than 1, they want to be larger.
 *
 * For corpora in which many positives are not marked as such.
 */
export class SimANS extends Randomised {
  readonly weights: SimANSForm;
  readonly depth: number;
  readonly negatives: number;

  constructor(options: SimANSOptions = {}) {
    const { weights = { form: 'squared' }, depth = 100, negatives = 1, seed = 0 } = options;
    super('SimANS', seed);
    if (!['squared', 'absolute'].includes(weights.form)) {
      throw new InvalidArgumentError(`SimANS: weights.form must be 'squared' or 'absolute', found '${weights.form}'`);
    }
    const { sharpness = 1 } = weights;
    if (!(sharpness >= 0 && sharpness < Infinity)) {
      throw new InvalidArgumentError(`SimANS: weights.sharpness must be a number of at least 0, found ${sharpness}`);
    }
    if (weights.form === 'squared' && !Number.isFinite(weights.shift ?? 0)) {
      throw new InvalidArgumentError(`SimANS: weights.shift must be a number, found ${weights.shift}`);
    }
    this.weights = weights;
    this.depth = positiveInteger(depth, 'SimANS: depth');
    this.negatives = positiveInteger(negatives, 'SimANS: negatives');
  }

  /**
   * The logarithms of the weights of scores [N, C] beside those of positives [N]; −∞ where a score is.
   */
  logWeights(scores: Tensor, positiveScores: Tensor): Tensor {
    return noGrad(() =>
      scope(() => {
        const away = scores.to({ dtype: 'float64' }).sub(positiveScores.to({ dtype: 'float64' }).unsqueeze(1));
        const { weights } = this;
        const logarithms =
          weights.form === 'squared'
            ? away
                .sub(weights.shift ?? 0)
                .square()
                .mul(-(weights.sharpness ?? 1))
            : away.abs().mul(-(weights.sharpness ?? 3));
        return logarithms.maskedFill(scores.eq(-Infinity), -Infinity);
      }),
    );
  }

  /**
   * Draws negatives.
   *
   * @returns [N, K]
   * @throws InvalidArgumentError if something does not fit, before anything is drawn
   */
  sample(index: SearchIndex, input: SimANSInput): DocumentNegatives {
    const { queries, positives, positiveEmbeddings, positiveScores } = input;
    const own = checkPositives(positives, queries, 'SimANS');
    if (positiveScores !== undefined) {
      checkTensor(positiveScores, [queries.sizeOf(0)], positiveScores.dtype, 'SimANS: positiveScores');
    } else if (positiveEmbeddings !== undefined) {
      checkTensor(positiveEmbeddings, queries.shape, positiveEmbeddings.dtype, 'SimANS: positiveEmbeddings');
    } else throw new InvalidArgumentError('SimANS: give positiveEmbeddings or positiveScores');
    return noGrad(() =>
      scope(() => {
        const score =
          positiveScores ?? ownScores(queries, positiveEmbeddings!.unsqueeze(1), index.similarity).squeeze(1);
        const ranked = rankedNegatives(index, queries, own, this.depth);
        return atPlaces(ranked, drawPlaces(this.logWeights(ranked.scores, score), this.negatives, this.generator));
      }),
    );
  }
}
