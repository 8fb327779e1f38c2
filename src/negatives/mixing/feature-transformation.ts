/** Feature transformation: positives pushed apart and negatives mixed among each other. */
import { InvalidArgumentError, noGrad, scope, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { checkDevice, checkPaired, widened } from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { checkConcentration, drawBeta, drawOrder } from './mix';
import { Randomised } from '../randomised';

/** What a {@link FeatureTransformation} is made from. */
export interface FeatureTransformationOptions {
  /** α of the draws for positives, or null to leave them. Default 2, as in the authors' code. */
  positives?: number | null;
  /** α of the draws for the queue, or null to leave it. Default 1.6, as in the authors' code. */
  negatives?: number | null;
  /** Whether λ is drawn once a call (default), for each row, or for each number, which costs as many draws as the queue has numbers. */
  each?: 'call' | 'row' | 'number';
  /** Whether to scale what was mixed to length one again. Default false, as in the authors' code. */
  normalize?: boolean;
  /** Seeds the draws, or where they come from. Default 0. */
  seed?: number | bigint | Generator;
}

/** What {@link FeatureTransformation.apply} gives. */
export interface TransformedFeatures {
  /** [N, D], with gradients. */
  queries: Tensor;
  /** [N, D], with gradients of the queries. */
  keys: Tensor;
  /** [K, D], without gradients. */
  negatives: Tensor;
}

/**
 * Feature transformation, FT (Zhu, Zhao, Huang and Chen 2021, "Improving Contrastive Learning by Visualizing Feature Transformation"):
 *
 *     positive extrapolation:  ẑ_q = λ z_q + (1 − λ) z_k,   ẑ_k = λ z_k + (1 − λ) z_q,   λ ~ Beta(α₊, α₊) + 1
 *     negative interpolation:  Ẑ = λ′ Z + (1 − λ′) Z[π],   λ′ ~ Beta(α₋, α₋),   π a random order of the queue
 *
 * Extrapolation takes the positive similarity s of unit vectors down to s − 2λ(λ − 1)(1 − s): harder positives. Interpolation makes a queue of
 * negatives that were not there before. What comes out is not of length one unless `normalize` is set; compare it by dot products.
 *
 * Keys and queue have no gradient; queries have, also through ẑ_k, as in the authors' code. That code enqueues the transformed key on one
 * device: enqueue the key that went in. The authors' class draws λ for each number unless told otherwise (`each: 'number'`).
 *
 * For momentum contrast, in place of stronger augmentation.
 */
export class FeatureTransformation extends Randomised {
  readonly positives: number | null;
  readonly negatives: number | null;
  readonly each: 'call' | 'row' | 'number';
  readonly normalize: boolean;

  constructor(options: FeatureTransformationOptions = {}) {
    const { positives = 2, negatives = 1.6, each = 'call', normalize = false, seed = 0 } = options;
    super('FeatureTransformation', seed);
    if (positives !== null) checkConcentration(positives, 'FeatureTransformation: positives');
    if (negatives !== null) checkConcentration(negatives, 'FeatureTransformation: negatives');
    if (!['call', 'row', 'number'].includes(each)) {
      throw new InvalidArgumentError(
        `FeatureTransformation: each must be 'call', 'row' or 'number', found '${String(each)}'`,
      );
    }
    [this.positives, this.negatives, this.each, this.normalize] = [positives, negatives, each, normalize];
  }

  /**
   * Transforms what a step compares.
   *
   * @param queries [N, D] of length one, of any floating-point dtype
   * @param keys [N, D] of length one: row i is the key of query i; detached here
   * @param queue [K, D]; is not changed
   * @throws InvalidArgumentError if shapes or devices do not fit, before anything is drawn
   */
  apply(queries: Tensor, keys: Tensor, queue: Tensor): TransformedFeatures {
    checkPaired(queries, keys, 'FeatureTransformation', ['queries', 'keys']);
    checkEmbeddings(queue, 'FeatureTransformation: queue', queries.sizeOf(1));
    checkDevice(queue, queries, 'FeatureTransformation: queue');
    return withoutAutocast(queries, () =>
      scope(() => ({ ...this.#extrapolated(queries, keys.detach()), negatives: this.#interpolated(queue.detach()) })),
    );
  }

  #extrapolated(queries: Tensor, keys: Tensor): { queries: Tensor; keys: Tensor } {
    const [q, k] = widened(queries, keys);
    if (this.positives === null) return { queries: q, keys: k };
    const beyond = this.#draw(this.positives, q);
    // λ z_q + (1 − λ) z_k = z_q + (λ − 1)(z_q − z_k), and λ − 1 is what the beta distribution gives.
    const apart = q.sub(k).mul(beyond);
    return { queries: this.#finished(q.add(apart)), keys: this.#finished(k.sub(apart)) };
  }

  #interpolated(queue: Tensor): Tensor {
    return noGrad(() => {
      const [keys] = widened(queue);
      if (this.negatives === null) return keys;
      const others = keys.indexSelect(0, drawOrder(keys.sizeOf(0), this.generator, keys));
      return this.#finished(others.lerp_(keys, this.#draw(this.negatives, keys)));
    });
  }

  #draw(alpha: number, like: Tensor): Tensor {
    const [rows, width] = like.shape as [number, number];
    const shape = { call: [1, 1], row: [rows, 1], number: [rows, width] }[this.each];
    return drawBeta(shape, alpha, this.generator).to({ dtype: like.dtype, device: like.device });
  }

  #finished(x: Tensor): Tensor {
    return this.normalize ? functional.normalize(x) : x;
  }
}

/** What {@link scoreStatistics} gives, as numbers. */
export interface ScoreStatistics {
  /** Mean and variance, over all queries, of the similarity with the positive key. */
  positiveMean: number;
  positiveVariance: number;
  /** The means over queries of the mean and the variance of the similarities with the queue. */
  negativeMean: number;
  negativeVariance: number;
}

/**
 * What the paper draws to see what a transformation does: how similarities with positives and negatives are spread. Dot products of the given
 * embeddings; variances are those of the population.
 *
 * @param queries [N, D]
 * @param keys [N, D]
 * @param negatives [K, D]
 */
export function scoreStatistics(queries: Tensor, keys: Tensor, negatives: Tensor): ScoreStatistics {
  checkPaired(queries, keys, 'scoreStatistics', ['queries', 'keys']);
  checkEmbeddings(negatives, 'scoreStatistics: negatives', queries.sizeOf(1));
  checkDevice(negatives, queries, 'scoreStatistics: negatives');
  return withoutAutocast(queries, () =>
    noGrad(() =>
      scope(() => {
        const [q, k, others] = widened(queries, keys, negatives);
        const own = q.mul(k).sum([1]);
        // Mean and variance of q·n over n are q·mean(n) and q·Cov(n)·q.
        const centre = others.mean([0]);
        const apart = others.sub(centre);
        const spread = q
          .matmul(apart.t().matmul(apart).div(others.sizeOf(0)))
          .mul(q)
          .sum([1]);
        const number = (x: Tensor): number => Number(x.itemSync());
        const mean = own.mean();
        return {
          positiveMean: number(mean),
          positiveVariance: number(own.sub(mean).square().mean()),
          negativeMean: number(q.matmul(centre).mean()),
          negativeVariance: number(spread.mean()),
        };
      }),
    ),
  );
}
