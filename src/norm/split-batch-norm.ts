import { InvalidArgumentError, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import type { Grouping } from './grouped-batch';
import { groupedBatchNorm } from './operators';

/** What split batch normalisation is made from. */
export interface SplitBatchNormOptions extends BatchNormOptions {
  /** Into how many groups of samples a training batch is split. */
  splits: number;
  /**
   * What to do when the batch does not divide evenly: `'allow'` (default) makes the first groups one sample larger,
   * `'error'` refuses the batch. Interleaved groups are always equal.
   */
  unequalGroups?: 'allow' | 'error';
  /**
   * Which samples make a group: `'neighbours'` (default) takes consecutive ones, `'interleaved'` every `splits`-th, as the split
   * batch norm in MoCo's demonstration does.
   */
  grouping?: Grouping;
}

/**
 * Batch normalisation in which each of s groups of samples is normalised in training by the statistics of its own group, as if the
 * batch lay on s devices: y = (x − μ_g) / √(σ²_g + eps) · γ + β. The running statistics move towards the mean of the groups'
 * statistics, weighted by their sizes: μ ← (1 − m)·μ + m·Σ_g (n_g / N)·μ_g. Evaluation, parameters, shapes, dtypes and state are
 * those of {@link BatchNorm}.
 *
 * In momentum contrast it stands in for the many devices on which ShuffleBN relies (He et al. 2020, Momentum Contrast for
 * Unsupervised Visual Representation Learning). Where the size of a group is fixed rather than their number, and running statistics
 * take each group as a batch, see {@link GhostBatchNorm}.
 */
export abstract class SplitBatchNorm extends BatchNorm {
  readonly splits: number;
  readonly unequalGroups: 'allow' | 'error';
  readonly grouping: Grouping;

  constructor(options: SplitBatchNormOptions) {
    super(options);
    this.splits = positiveInteger(options.splits, `${new.target.name}: splits`);
    this.unequalGroups = options.unequalGroups ?? 'allow';
    this.grouping = options.grouping ?? 'neighbours';
  }

  /**
   * @throws InvalidArgumentError if the shape does not fit, a group of a training batch has one value a channel, or the groups
   * are unequal and that is not allowed
   */
  override forward(x: Tensor): Tensor {
    const batchNormalised = this.training || this.runningMean === null;
    if (!batchNormalised || this.splits === 1) return super.forward(x);
    this.checkInput(x);
    const sizes = this.#sizes(x.sizeOf(0));
    const smallest = [sizes[sizes.length - 1]!, ...x.shape.slice(1)];
    this.checkValues(smallest, `the smallest of ${this.splits} groups of ${x.sizeOf(0)} samples`);
    const momentum = this.countBatch();
    return this.#normalizeGroups(x, sizes, momentum);
  }

  #sizes(samples: number): number[] {
    const { splits } = this;
    const larger = samples % splits;
    if (larger !== 0 && (this.unequalGroups === 'error' || this.grouping === 'interleaved')) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: a batch of ${samples} does not split into ${splits} equal groups; ` +
          (this.grouping === 'interleaved'
            ? 'change the batch size or splits, or the grouping'
            : `change the batch size or splits, or set unequalGroups: 'allow'`),
      );
    }
    return Array.from({ length: splits }, (_, group) => Math.floor(samples / splits) + (group < larger ? 1 : 0));
  }

  #normalizeGroups(x: Tensor, sizes: readonly number[], momentum: number): Tensor {
    const { weight, bias, eps, grouping, runningMean, runningVar } = this;
    const moving = this.training && runningMean !== null && runningVar !== null;
    const weights = sizes.map((size) => (momentum * size) / x.sizeOf(0));
    const running = moving ? { mean: runningMean, variance: runningVar, keep: 1 - momentum, weights } : null;
    return groupedBatchNorm(x, { weight, bias, sizes, interleaved: grouping === 'interleaved', eps, running });
  }
}
