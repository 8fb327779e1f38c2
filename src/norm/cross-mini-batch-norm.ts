import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import { groupMoments, moveStatistics, normalizeBy } from './operators';

/** What cross mini-batch normalisation is made from. */
export interface CrossMiniBatchNormOptions extends Omit<BatchNormOptions, 'trackRunningStats'> {
  /** How many micro-batches gradients are accumulated over before the optimiser's step. */
  microBatches: number;
}

/**
 * Cross mini-batch normalisation (CmBN): while gradients accumulate over n micro-batches, the t-th is normalised by the statistics
 * of micro-batches 1 to t, each counting alike: μ̄_t = mean of μ_1 … μ_t, ν̄_t = mean of the mean squares,
 * y = (x − μ̄_t) / √(ν̄_t − μ̄_t² + eps) · γ + β. After n micro-batches the count starts anew. Gradients flow through the current
 * micro-batch's part. As weights do not change in between, no compensation is needed. (The variance is accumulated about the means,
 * which does not cancel.)
 *
 * For x [N, C, …] in the dtypes of {@link BatchNorm}. After each micro-batch the running statistics move towards μ̄_t and the
 * unbiased variance, as YOLOv4's code does; evaluation is that of {@link BatchNorm}. State besides: `accumulatedMean`,
 * `accumulatedVar` and `microBatch`, the number of micro-batches of this step so far.
 *
 * Use it where gradients are accumulated because memory allows only small batches.
 *
 * Bochkovskiy, Wang and Liao 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection.
 */
export class CrossMiniBatchNorm extends BatchNorm {
  readonly microBatches: number;
  readonly accumulatedMean: Tensor;
  readonly accumulatedVar: Tensor;
  /** int64, no dimensions. */
  readonly microBatch: Tensor;

  /** @throws InvalidArgumentError for a number of micro-batches that does not fit */
  constructor(options: CrossMiniBatchNormOptions) {
    super(options);
    const { features, microBatches, device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    if (!this.trackRunningStats) {
      throw new InvalidArgumentError(`${layer}: needs running statistics; leave trackRunningStats out`);
    }
    this.microBatches = positiveInteger(microBatches, `${layer}: microBatches`);
    this.accumulatedMean = this.registerBuffer('accumulatedMean', torch.zeros([features], { device, dtype }));
    this.accumulatedVar = this.registerBuffer('accumulatedVar', torch.zeros([features], { device, dtype }));
    this.microBatch = this.registerBuffer('microBatch', torch.zeros([], { device, dtype: 'int64' }));
  }

  protected override checkDimensions(x: Tensor): void {
    if (x.ndim < 2 || x.ndim > 5) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, C, …], found shape [${x.shape.join(', ')}]`,
      );
    }
  }

  override forward(x: Tensor): Tensor {
    if (!this.training || this.microBatches === 1) return super.forward(x);
    this.checkInput(x);
    this.checkValues(x.shape, 'the micro-batch');
    return scope(() => this.#normalizeAcross(x));
  }

  /** Forgets the micro-batches so far: the next one starts a step. For a step that was given up. */
  restart(): void {
    noGrad(() => this.microBatch.zero_().dispose());
  }

  #normalizeAcross(x: Tensor): Tensor {
    const { accumulatedMean, accumulatedVar, microBatch, eps } = this;
    const sizes = [x.sizeOf(0)];
    const [ownMean, ownVariance] = groupMoments(x, sizes);
    const momentum = this.countBatch();
    const [mean, variance, share] = noGrad(() => {
      const dtype = ownMean.dtype;
      // 1 / t, worked out on the device so that nothing waits for it.
      const share = microBatch.add(1).to({ dtype }).reciprocal_();
      const before = accumulatedMean.to({ dtype });
      const mean = before.lerp(ownMean, share);
      // Of the means about the joined one: share·(1 − share)·(own − before)².
      const [step, rest] = [mean.sub(before), ownMean.sub(mean)];
      const variance = accumulatedVar.to({ dtype }).lerp(ownVariance, share).addcmul_(step, rest);
      accumulatedMean.copy_(mean);
      accumulatedVar.copy_(variance);
      // V / (V − 1) of all V values a channel so far.
      const unbiased = variance.div(share.mul(-this.features / x.numel()).add_(1));
      moveStatistics(this, { mean, variance: unbiased }, momentum);
      microBatch.add_(1).remainder_(this.microBatches);
      return [mean, variance, share];
    });
    return normalizeBy(x, this.weight, this.bias, { mean, variance, ownMean, share }, sizes, eps);
  }
}
