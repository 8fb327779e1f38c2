import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';

/** What split batch normalisation is made from. */
export interface SplitBatchNormOptions extends BatchNormOptions {
  /** Into how many groups of samples a training batch is split. */
  splits: number;
  /**
   * What to do when the batch does not divide evenly: `'allow'` (default) makes the first groups one sample larger,
   * `'error'` refuses the batch.
   */
  unequalGroups?: 'allow' | 'error';
}

/**
 * Batch normalisation in which each of s groups of neighbouring samples is normalised in training by the statistics of its
 * own group, as if the batch lay on s devices. The running statistics move towards the mean of the groups'
 * statistics, weighted by their sizes. Evaluation, parameters and state are those of {@link BatchNorm}.
 *
 * Also known as ghost batch normalisation (Hoffer et al. 2017). In momentum contrast it stands in for the many devices on
 * which ShuffleBN relies (He et al. 2020).
 */
export abstract class SplitBatchNorm extends BatchNorm {
  readonly splits: number;
  readonly unequalGroups: 'allow' | 'error';

  constructor(options: SplitBatchNormOptions) {
    super(options);
    this.splits = positiveInteger(options.splits, `${new.target.name}: splits`);
    this.unequalGroups = options.unequalGroups ?? 'allow';
  }

  /**
   * @throws InvalidArgumentError if the shape does not fit, a group of a training batch has one value a channel, or the groups
   * are unequal and that is not allowed
   */
  override forward(x: Tensor): Tensor {
    const batchNormalised = this.training || this.runningMean === null;
    if (!batchNormalised || this.splits === 1) return super.forward(x);
    this.checkInput(x);
    const samples = x.shape[0] ?? 0;
    if (samples % this.splits !== 0 && this.unequalGroups === 'error') {
      throw new InvalidArgumentError(
        `${this.constructor.name}: a batch of ${samples} does not split into ${this.splits} equal groups; ` +
          `change the batch size or splits, or set unequalGroups: 'allow'`,
      );
    }
    const smallest = Math.floor(samples / this.splits);
    this.checkValues([smallest, ...x.shape.slice(1)], `the smallest of ${this.splits} groups of ${samples} samples`);
    const momentum = this.countBatch();
    return scope(() => this.#normalizeGroups(x.tensorSplit(this.splits), momentum));
  }

  #normalizeGroups(groups: Tensor[], momentum: number): Tensor {
    const { runningMean, runningVar } = this;
    if (runningMean === null || runningVar === null) {
      return torch.cat(groups.map((group) => this.normalize(group, null, null, momentum)));
    }
    // Every group starts from the same running statistics and moves a row of its own; the rows are then averaged.
    const [means, variances] = noGrad(() => [
      runningMean.repeat([this.splits, 1]),
      runningVar.repeat([this.splits, 1]),
    ]) as [Tensor, Tensor];
    const meanRows = means.unbind();
    const varianceRows = variances.unbind();
    const normalized = torch.cat(
      groups.map((group, index) => this.normalize(group, meanRows[index]!, varianceRows[index]!, momentum)),
    );
    noGrad(() => {
      runningMean.copy_(this.#average(means, groups));
      runningVar.copy_(this.#average(variances, groups));
    });
    return normalized;
  }

  /** The mean of the rows, weighted by the sizes of the groups where they differ. */
  #average(rows: Tensor, groups: readonly Tensor[]): Tensor {
    const sizes = groups.map((group) => group.sizeOf(0));
    const samples = sizes.reduce((sum, size) => sum + size, 0);
    if (samples % this.splits === 0) return rows.mean([0]);
    const weights = sizes.map((size) => size / samples);
    return torch.tensor(weights, { device: rows.device, dtype: rows.dtype }).matmul(rows);
  }
}
