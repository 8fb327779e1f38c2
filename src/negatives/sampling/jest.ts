import { deriveSeed } from '../../data/seed';
import { positiveInteger } from '../../nn/checks';
import { Generator, InvalidArgumentError, noGrad, scope, torch, type JsonObject, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import type { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SampledBatch, type SamplerOptions } from './sampler';

/** What {@link jointSelection} takes beside the scores. */
export interface JointSelectionOptions {
  /** How many rows to select. */
  count: number;
  /** In how many steps they are drawn, each given those before. Default: 16, or `count` if that is less. */
  chunks?: number;
  /** The contrastive loss that both models were trained with. Default: `'sigmoid'`. */
  loss?: 'sigmoid' | 'softmax';
  /**
   * What is selected: `'learnable'` batches, hard for the learner and easy for the reference; `'hard'` ones for the learner; `'easy'` ones
   * for the reference. Default: `'learnable'`.
   */
  criterion?: 'learnable' | 'hard' | 'easy';
  /** What the scores are multiplied by: the larger, the less is left to chance. Default: 1. */
  gain?: number;
  /** Where chance comes from: a generator of the CPU, whatever the device of the scores. */
  generator: Generator;
}

/** The scaled similarities (and for the sigmoid loss the bias) of one model, [B, B]: row i is image i, column j is text j. */
export type Logits = Tensor;

/**
 * JEST (Evans, Parthasarathy, Merzic and Hénaff 2024, "Data curation via joint example selection further accelerates multimodal learning"):
 * selects from a super-batch the rows that make a good batch together, in chunks, as blocked Gibbs sampling does. Row k comes into the next
 * chunk with a probability in proportion to exp(g · (r_kk + Σ_{j selected} (r_kj + r_jk))), where r = ℓ(learner) − ℓ(reference) of each pair
 * of image and text:
 *
 *     sigmoid:  ℓ_ij = log(1 + exp(−z_ij·s_ij)),   z = 1 on the diagonal, else −1
 *     softmax:  r_kk = −s_kk,  and in place of the sum  ½ (log Σ_{j selected} exp s_kj + log Σ_{j selected} exp s_jk),  of both models
 *
 * The first chunk is drawn by r_kk alone. Without replacement. Costs B² a chunk, besides the logits.
 *
 * The paper was not to be had: checked against two independent implementations that cite it, of which one has the sum for the sigmoid
 * loss, the other the softmax form. They differ in the first chunk (uniform; in proportion to r_kk less its minimum); ours draws it as the
 * others. 16 chunks and selecting a fifth are their defaults.
 *
 * For training image-text models on web data with a reference model of a well curated set.
 *
 * @param learner floating-point [B, B]: of the model that is trained
 * @param reference [B, B]: of the model trained on data as it should be; may be left out (null) for `'hard'`, `learner` for `'easy'`
 * @returns int64 [count] on the scores' device: positions in the super-batch, in the order in which they were selected. No gradients
 * @throws InvalidArgumentError if shapes, devices or numbers do not fit
 */
export function jointSelection(
  learner: Logits | null,
  reference: Logits | null,
  options: JointSelectionOptions,
): Tensor {
  const { loss = 'sigmoid', criterion = 'learnable', gain = 1, generator } = options;
  const what = 'jointSelection';
  const any = learner ?? reference;
  if (!any || (!learner && criterion !== 'easy') || (!reference && criterion !== 'hard')) {
    throw new InvalidArgumentError(`${what}: '${criterion}' needs the logits of ${needed(criterion)}`);
  }
  if (!['sigmoid', 'softmax'].includes(loss)) {
    throw new InvalidArgumentError(`${what}: loss must be 'sigmoid' or 'softmax', found '${loss}'`);
  }
  for (const [name, logits] of Object.entries({ learner, reference })) {
    if (!logits) continue;
    const square = logits.ndim === 2 && logits.shape[0] === logits.shape[1] && logits.isFloatingPoint();
    if (!square || logits.shape[0] !== any.shape[0] || logits.device !== any.device) {
      throw new InvalidArgumentError(
        `${what}: ${name} must be floating-point [B, B] on one device for both, found ${logits.dtype} [${logits.shape.join(', ')}] ` +
          `on ${logits.device}`,
      );
    }
  }
  const size = any.sizeOf(0);
  const count = positiveInteger(options.count, `${what}: count`);
  const chunks = positiveInteger(options.chunks ?? Math.min(16, count), `${what}: chunks`);
  if (count > size || chunks > count) {
    throw new InvalidArgumentError(
      `${what}: count must be at most the super-batch of ${size} and chunks at most count, found ${count} and ${chunks}`,
    );
  }
  return withoutAutocast(any, () =>
    noGrad(() =>
      scope(() => {
        const wide = (logits: Tensor | null) => logits?.detach().to({ dtype: 'float64' });
        const models: { sign: number; logits: Tensor }[] = [];
        const [own, other] = [wide(learner), wide(reference)];
        if (own && criterion !== 'easy') models.push({ sign: 1, logits: own });
        if (other && criterion !== 'hard') models.push({ sign: -1, logits: other });
        const diagonal = torch.eye(size, { dtype: 'bool', device: any.device });
        const pairLosses = models.map(({ sign, logits }) => {
          if (loss === 'softmax') return logits.mul(-sign);
          return torch.where(diagonal, logits, logits.neg()).logSigmoid().mul(-sign);
        });
        const scores = pairLosses.reduce((sum, part) => sum.add(part));
        const alone = scores.diagonal();
        /** What row k adds beside those selected. */
        const given = (selected: Tensor): Tensor => {
          if (loss === 'sigmoid') {
            return scores
              .indexSelect(1, selected)
              .sum([1])
              .add(scores.indexSelect(0, selected).sum([0]));
          }
          return models
            .map(({ sign, logits }) =>
              logits
                .indexSelect(1, selected)
                .logsumexp([1])
                .add(logits.indexSelect(0, selected).logsumexp([0]))
                .mul(sign / 2),
            )
            .reduce((sum, part) => sum.add(part));
        };
        let selected: Tensor | undefined;
        for (let chunk = 0; chunk < chunks; chunk++) {
          const wanted = Math.floor((count * (chunk + 1)) / chunks) - Math.floor((count * chunk) / chunks);
          const logits = (selected ? alone.add(given(selected)) : alone).mul(gain);
          // The largest of logits plus Gumbel noise are drawn one after the other in proportion to exp(logits), without replacement.
          const uniform = torch.rand([size], { dtype: 'float64', generator }).to({ device: any.device });
          const noisy = logits.sub(
            uniform
              .clampMin(2 ** -54)
              .log()
              .neg()
              .log(),
          );
          const open = selected ? noisy.indexFill(0, selected, -Infinity) : noisy;
          const chosen = open.topk(wanted)[1];
          selected = selected ? torch.cat([selected, chosen]) : chosen;
        }
        return selected!;
      }),
    ),
  );
}

function needed(criterion: string): string {
  if (criterion === 'learnable') return 'learner and reference';
  return criterion === 'hard' ? 'the learner' : 'the reference';
}

/** What {@link JestSampler} takes. */
export interface JestSamplerOptions extends SamplerOptions, Omit<JointSelectionOptions, 'generator' | 'count'> {
  /** The number of rows of the data set. */
  size: number;
  /** Rows to train on, of all ranks together. */
  batchSize: number;
  /** Which share of a super-batch is not trained on. Default: 0.8. */
  filterRatio?: number;
}

/**
 * Super-batches for {@link jointSelection}: a random permutation in batches of batchSize / (1 − filterRatio) rows, and the selection from
 * each. Every rank scores and selects from its own part. What a selection draws follows from the seed, the epoch, the step and the
 * rank, so there is no further state.
 *
 * A step: `const batch = sampler.next()`, score its rows by both models, `const kept = sampler.select(batch, learner, reference)`, train on
 * these.
 */
export class JestSampler extends EpochSampler {
  readonly batchSize: number;
  readonly superBatchSize: number;
  readonly options: Readonly<Omit<JointSelectionOptions, 'generator' | 'count'>>;

  /** @throws InvalidArgumentError naming the option that does not fit, or when the data set is smaller than a super-batch */
  constructor(options: JestSamplerOptions) {
    super(options.size, options);
    const { filterRatio = 0.8, chunks, loss, criterion, gain } = options;
    const { worldSize } = this.shard;
    this.batchSize = positiveInteger(options.batchSize, 'JestSampler: batchSize');
    if (!(filterRatio >= 0 && filterRatio < 1)) {
      throw new InvalidArgumentError(`JestSampler: filterRatio must be from 0 to less than 1, found ${filterRatio}`);
    }
    this.superBatchSize = Math.round(this.batchSize / (1 - filterRatio));
    if (this.batchSize % worldSize !== 0 || this.superBatchSize % worldSize !== 0) {
      throw new InvalidArgumentError(
        `JestSampler: batch ${this.batchSize} and super-batch ${this.superBatchSize} must be multiples of the ${worldSize} processes`,
      );
    }
    if (this.superBatchSize > this.size) {
      throw new InvalidArgumentError(
        `JestSampler: a super-batch of ${this.superBatchSize} needs as many rows, found ${this.size}`,
      );
    }
    this.options = { chunks, loss, criterion, gain };
  }

  /**
   * The rows of this rank's part of a super-batch to train on.
   *
   * @param batch what `next` gave
   * @returns int64 [batchSize / worldSize]: positions in `batch.indices`
   */
  select(batch: SampledBatch, learner: Logits | null, reference: Logits | null): Tensor {
    const seed = deriveSeed(this.seed, batch.epoch, batch.step, this.shard.rank);
    for (const logits of [learner, reference]) {
      if (!logits || logits.shape[0] === batch.indices.length) continue;
      throw new InvalidArgumentError(
        `JestSampler: logits must be of the ${batch.indices.length} rows of the batch, found [${logits.shape.join(', ')}]`,
      );
    }
    const generator = new Generator({ seed });
    return jointSelection(learner, reference, {
      ...this.options,
      count: this.batchSize / this.shard.worldSize,
      generator,
    });
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    return inBatches(random.permutation(this.size), this.superBatchSize, true);
  }

  protected override identity(): JsonObject {
    const { chunks = null, loss = null, criterion = null, gain = null } = this.options;
    return { batchSize: this.batchSize, superBatchSize: this.superBatchSize, chunks, loss, criterion, gain };
  }
}
