import { InvalidArgumentError, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { functional } from '../nn';
import { contrast } from './contrast';
import { softmaxOfSumLink } from './link';
import { checkEmbeddings } from './similarity';
import type { Execution } from './statistics';

/** What {@link InfoNCE} is made from. */
export interface InfoNCEOptions {
  /**
   * τ, by which similarities are divided. Default 0.07, as in MoCo; MoCo v2 uses 0.2, SimCLR 0.1 or 0.5, other libraries
   * default to 0.1 or 0.5.
   */
  temperature?: number;
  /** Whether to scale embeddings to length one first, which makes the similarity a cosine. Default true. */
  normalize?: boolean;
  /** Whether the other samples' positive keys count as negatives too. Default false. */
  inBatchNegatives?: boolean;
  /** `'mean'` (default) over the queries, or one loss a query with `'none'`. */
  reduction?: 'mean' | 'none';
  /** How {@link InfoNCE.forward} goes through the scores; {@link InfoNCE.parts} always holds them. Default: by size. */
  execution?: Execution | 'auto';
}

/** The parts of an InfoNCE loss, with gradients. */
export interface InfoNCEParts {
  /** The loss; no dimensions, or [N] without reduction. */
  loss: Tensor;
  /** The similarity of each query with its positive, divided by the temperature: [N]. */
  positives: Tensor;
  /** The same with the negatives: [N, number of negatives]; a query's own positive is −∞ among the in-batch ones. */
  negatives: Tensor;
}

/**
 * InfoNCE (van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"):
 *
 *     Lᵢ = −log( exp(sᵢ⁺ / τ) / (exp(sᵢ⁺ / τ) + Σⱼ exp(sᵢⱼ⁻ / τ)) )
 *
 * with sᵢ⁺ the similarity of query i with its positive key and sᵢⱼ⁻ with the negatives: those given (a queue, as in MoCo),
 * the other queries' positives (`inBatchNegatives`), or both. Computed as softplus(logsumexp(negatives) − positive), which
 * neither overflows nor loses small losses, in float32 (float64 for float64 inputs) also where autocast would choose a
 * shorter type.
 */
export class InfoNCE {
  readonly temperature: number;
  readonly normalize: boolean;
  readonly inBatchNegatives: boolean;
  readonly reduction: 'mean' | 'none';
  readonly execution: Execution | 'auto';

  constructor(options: InfoNCEOptions = {}) {
    const { temperature = 0.07, normalize = true, inBatchNegatives = false, reduction = 'mean' } = options;
    if (!(temperature > 0 && temperature < Infinity)) {
      throw new InvalidArgumentError(`InfoNCE: temperature must be a positive number, found ${String(temperature)}`);
    }
    this.temperature = temperature;
    this.normalize = normalize;
    this.inBatchNegatives = inBatchNegatives;
    this.reduction = reduction;
    this.execution = options.execution ?? 'auto';
  }

  /**
   * The loss alone, which need not hold the scores.
   *
   * @param query [N, D]
   * @param positive [N, D]: row i is the positive key of query i
   * @param negatives [K, D], shared by all queries, or null with in-batch negatives
   * @throws InvalidArgumentError if shapes, dtypes or devices do not fit, or there are no negatives at all
   */
  forward(query: Tensor, positive: Tensor, negatives: Tensor | null = null): Tensor {
    this.#check(query, positive, negatives);
    return withoutAutocast(query, () => {
      // Not as bfloat16, of which contrast() would take the products.
      const wide = (x: Tensor): Tensor => (x.dtype === 'float64' ? x : x.to('float32'));
      const keys = wide(positive);
      const shared = negatives === null ? [] : [{ embeddings: wide(negatives) }];
      const labels = torch.arange(query.sizeOf(0), { dtype: 'int64', device: query.device });
      return contrast({
        anchors: wide(query),
        ...(this.inBatchNegatives
          ? { labels, candidates: [{ embeddings: keys, labels }, ...shared] }
          : { positives: keys, candidates: shared }),
        similarity: this.normalize ? 'cosine' : 'dot',
        temperature: this.temperature,
        // Each query has one positive, so this is the same as the plain softmax, and keeps gradients that are far below 1.
        link: softmaxOfSumLink,
        reduction: this.reduction,
        execution: this.execution,
      });
    });
  }

  /** The loss and what it is made of, with the scores as matrices; takes the same as {@link InfoNCE.forward}. */
  parts(query: Tensor, positive: Tensor, negatives: Tensor | null = null): InfoNCEParts {
    this.#check(query, positive, negatives);
    return withoutAutocast(query, () => {
      const dtype = [query, positive, negatives].some((x) => x?.dtype === 'float64') ? 'float64' : 'float32';
      const prepared = (x: Tensor): Tensor => {
        const wide = x.to({ dtype });
        return this.normalize ? functional.normalize(wide) : wide;
      };
      const scaled = prepared(query).div(this.temperature);
      const keys = prepared(positive);
      const positives = scaled.mul(keys).sum([1]);
      const blocks: Tensor[] = [];
      if (this.inBatchNegatives) blocks.push(scaled.matmul(keys.t()).fillDiagonal_(-Infinity));
      if (negatives !== null) blocks.push(scaled.matmul(prepared(negatives).t()));
      const all = blocks.length === 1 ? blocks[0]! : torch.cat(blocks, 1);
      const losses = positives
        .sub(all.logsumexp([1]))
        .logSigmoid()
        .neg();
      return { loss: this.reduction === 'mean' ? losses.mean() : losses, positives, negatives: all };
    });
  }

  #check(query: Tensor, positive: Tensor, negatives: Tensor | null): void {
    checkEmbeddings(query, 'InfoNCE: query');
    const [samples, dimension] = query.shape as readonly [number, number];
    checkEmbeddings(positive, 'InfoNCE: positive', dimension, samples);
    if (negatives !== null) checkEmbeddings(negatives, 'InfoNCE: negatives', dimension);
    else if (!this.inBatchNegatives) {
      throw new InvalidArgumentError('InfoNCE: there are no negatives; give some, or set inBatchNegatives');
    } else if (samples === 1) {
      throw new InvalidArgumentError('InfoNCE: a batch of one sample holds no negatives');
    }
    for (const [name, keys] of [
      ['positive', positive],
      ['negatives', negatives],
    ] as const) {
      if (keys !== null && keys.device !== query.device) {
        throw new InvalidArgumentError(`InfoNCE: query is on ${query.device}, ${name} on ${keys.device}; move one`);
      }
    }
  }
}
