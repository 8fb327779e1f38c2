import { InvalidArgumentError, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import type { Grouping } from './grouped-batch';
import { countBatches, groupedBatchNorm } from './operators';

/** What ghost batch normalisation is made from. */
export interface GhostBatchNormOptions extends BatchNormOptions {
  /** Samples a ghost batch. (Hoffer et al. use 128; TabNet calls it the virtual batch size.) */
  ghostSize: number;
  /**
   * What becomes of the samples that do not fill a ghost: `'merge'` (default) adds them to the last ghost, `'keep'` makes them a
   * smaller ghost of their own, `'spread'` takes ⌈N / ghostSize⌉ ghosts whose sizes differ by at most one, `'error'` refuses the
   * batch. Interleaved ghosts are always equal.
   */
  unequalGhosts?: 'merge' | 'keep' | 'spread' | 'error';
  /**
   * Which samples make a ghost: `'neighbours'` (default) takes consecutive ones, `'interleaved'` samples i, i + k, i + 2k, … for
   * ghost i of k.
   */
  grouping?: Grouping;
}

/**
 * Ghost batch normalisation: a training batch is cut into ghost batches of `ghostSize` samples, and each is normalised by its own
 * statistics, y = (x − μ_g) / √(σ²_g + eps) · γ + β. The running statistics take the ghosts one after the other, each with the full
 * momentum m: μ ← (1 − m)^k·μ + Σ_{g=1..k} m·(1 − m)^{k−g}·μ_g, and likewise the unbiased variance. Each ghost counts as a batch in
 * `numBatchesTracked`. So outputs and state are those of a plain {@link BatchNorm} that is given the ghosts one by one: micro-batches
 * of `ghostSize` that gradients are accumulated over leave the same state as one large batch. Evaluation, parameters, shapes, dtypes
 * and state are those of {@link BatchNorm}.
 *
 * The paper's listing runs averages over standard deviations, and its exponents do not add up to one as printed; this is the
 * exponential average that its text means, over variances as PyTorch's state has them.
 *
 * Use it where a large batch generalises worse than a small one, or as a regulariser.
 *
 * Hoffer, Hubara and Soudry 2017, Train longer, generalize better: closing the generalization gap in large batch training of neural
 * networks.
 */
export abstract class GhostBatchNorm extends BatchNorm {
  readonly ghostSize: number;
  readonly unequalGhosts: 'merge' | 'keep' | 'spread' | 'error';
  readonly grouping: Grouping;

  constructor(options: GhostBatchNormOptions) {
    super(options);
    this.ghostSize = positiveInteger(options.ghostSize, `${new.target.name}: ghostSize`);
    this.unequalGhosts = options.unequalGhosts ?? 'merge';
    this.grouping = options.grouping ?? 'neighbours';
  }

  /**
   * @throws InvalidArgumentError if the shape does not fit, a ghost of a training batch has one value a channel, or the ghosts are
   * unequal and that is not allowed
   */
  override forward(x: Tensor): Tensor {
    const batchNormalised = this.training || this.runningMean === null;
    if (!batchNormalised) return super.forward(x);
    this.checkInput(x);
    const sizes = this.#sizes(x.sizeOf(0));
    const smallest = Math.min(...sizes);
    this.checkValues(
      [smallest, ...x.shape.slice(1)],
      `the smallest of ${sizes.length} ghosts of ${x.sizeOf(0)} samples`,
    );
    if (sizes.length === 1) return super.forward(x);
    return this.#normalizeGhosts(x, sizes);
  }

  #sizes(samples: number): number[] {
    const { ghostSize } = this;
    const full = Math.floor(samples / ghostSize);
    const left = samples - full * ghostSize;
    const sizes = Array.from({ length: full }, () => ghostSize);
    if (left === 0 && full > 0) return sizes;
    if (this.unequalGhosts === 'error' || (this.grouping === 'interleaved' && full > 0)) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: a batch of ${samples} does not divide into ghosts of ${ghostSize}; change the batch size or ` +
          (this.unequalGhosts === 'error' ? `ghostSize, or set unequalGhosts: 'merge'` : 'ghostSize, or the grouping'),
      );
    }
    if (full === 0) return [left];
    if (this.unequalGhosts === 'keep') return [...sizes, left];
    if (this.unequalGhosts === 'merge') return [...sizes.slice(1), ghostSize + left];
    const ghosts = full + 1;
    const larger = samples % ghosts;
    return Array.from({ length: ghosts }, (_, ghost) => Math.floor(samples / ghosts) + (ghost < larger ? 1 : 0));
  }

  #normalizeGhosts(x: Tensor, sizes: readonly number[]): Tensor {
    const { weight, bias, eps, grouping, runningMean, runningVar } = this;
    const moving = this.training && runningMean !== null && runningVar !== null;
    const running = moving ? { mean: runningMean, variance: runningVar, ...this.#countGhosts(sizes.length) } : null;
    return groupedBatchNorm(x, { weight, bias, sizes, interleaved: grouping === 'interleaved', eps, running });
  }

  /** Counts the ghosts as batches and gives what the old running statistics and each ghost weigh in the new ones. */
  #countGhosts(ghosts: number): { keep: number; weights: number[] } {
    const batches = this.numBatchesTracked!;
    countBatches(batches, ghosts);
    const { momentum } = this;
    if (momentum === null) {
      const seen = batches.itemSync();
      return { keep: 1 - ghosts / seen, weights: Array.from({ length: ghosts }, () => 1 / seen) };
    }
    const weights = Array.from({ length: ghosts }, (_, ghost) => momentum * (1 - momentum) ** (ghosts - 1 - ghost));
    return { keep: (1 - momentum) ** ghosts, weights };
  }
}
