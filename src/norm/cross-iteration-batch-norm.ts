import { grad, InvalidArgumentError, isGradEnabled, noGrad, scope, torch, type Tensor } from '../torch';
import type { Parameter } from '../nn';
import { integerFrom, positiveInteger } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import { alongChannels, inKernelFormat } from './channel-layout';
import { blendWindow, groupMoments, moveStatistics, normalizeBy } from './operators';

/** What cross-iteration batch normalisation is made from. */
export interface CrossIterationBatchNormOptions extends Omit<BatchNormOptions, 'trackRunningStats'> {
  /** k: over how many batches, the current one included, statistics are taken. Default 8. */
  window?: number;
  /**
   * θ: the weight [features, …] of the layer whose output this one takes directly, for the Taylor compensation. It stays that
   * layer's: it is no parameter of this one. Without it earlier statistics are used as they were.
   */
  producer?: Parameter;
  /** How many batches at the start are normalised by plain batch norm, and leave nothing behind. Default 0. */
  burnIn?: number;
}

/**
 * Cross-iteration batch normalisation (CBN): training normalises by statistics over the last k batches, earlier ones corrected for
 * the change of the producing layer's weight θ since, to first order:
 * μ_τ(θ) = μ_τ + ⟨∂μ_τ/∂θ_τ, θ − θ_τ⟩, ν_τ(θ) likewise for the mean square ν, and with bars for the mean over the batches,
 * y = (x − μ̄) / √(ν̄ − μ̄² + eps) · γ + β. A batch whose corrected variance ν_τ(θ) − μ_τ(θ)² is negative in a channel is left out
 * there, as in the authors' code (the paper takes the larger of ν_τ(θ) and μ_τ(θ)²). Variances are kept about their means, which is
 * the same and does not cancel. Gradients flow through the current batch's part of the statistics.
 *
 * For x [N, C, …] in the dtypes of {@link BatchNorm}. The running statistics take each batch's own, and evaluation is that of
 * {@link BatchNorm}. State besides: `pastMeans`, `pastVariances` and `pastValid`, [k − 1, C], and with `producer` `pastWeights`,
 * `meanSlopes` and `varianceSlopes`, [k − 1, …θ]. Where no graph to θ is recorded (training under `noGrad`, frozen layers), a batch
 * is normalised plainly and leaves nothing behind.
 *
 * Use it where memory allows only a few samples a batch. The compensation takes two backward passes through the producing layer a
 * step.
 *
 * Yao, Cao, Zheng, Huang and Lin 2021, Cross-Iteration Batch Normalization.
 */
export class CrossIterationBatchNorm extends BatchNorm {
  readonly window: number;
  readonly burnIn: number;
  readonly pastMeans: Tensor;
  readonly pastVariances: Tensor;
  /** 1 where a row holds a batch, else 0. */
  readonly pastValid: Tensor;
  readonly pastWeights: Tensor | null;
  readonly meanSlopes: Tensor | null;
  readonly varianceSlopes: Tensor | null;
  readonly #producer: Parameter | null;

  /** @throws InvalidArgumentError for a window or burn-in that does not fit, or a producer of other channels */
  constructor(options: CrossIterationBatchNormOptions) {
    super(options);
    const { features, window = 8, burnIn = 0, producer = null, device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    if (!this.trackRunningStats) {
      throw new InvalidArgumentError(`${layer}: needs running statistics; leave trackRunningStats out`);
    }
    this.window = positiveInteger(window, `${layer}: window`);
    this.burnIn = integerFrom(0, burnIn, `${layer}: burnIn`);
    if (producer !== null && producer.shape[0] !== features) {
      throw new InvalidArgumentError(
        `${layer}: the producer must be a weight [${features}, …], found [${producer.shape.join(', ')}]`,
      );
    }
    this.#producer = producer;
    const rows = (name: string, ...shape: readonly number[]): Tensor =>
      this.registerBuffer(name, torch.zeros([window - 1, ...shape], { device, dtype }));
    const slopes = (name: string): Tensor | null => (producer === null ? null : rows(name, ...producer.shape));
    this.pastMeans = rows('pastMeans', features);
    this.pastVariances = rows('pastVariances', features);
    this.pastValid = rows('pastValid', features);
    this.pastWeights = slopes('pastWeights');
    this.meanSlopes = slopes('meanSlopes');
    this.varianceSlopes = slopes('varianceSlopes');
  }

  protected override checkDimensions(x: Tensor): void {
    if (x.ndim < 2 || x.ndim > 5) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, C, …], found shape [${x.shape.join(', ')}]`,
      );
    }
  }

  /** @throws InvalidArgumentError as for {@link BatchNorm}, or if `x` does not come from the producer */
  override forward(x: Tensor): Tensor {
    if (!this.training || this.window === 1 || !x.requiresGrad || !isGradEnabled()) return super.forward(x);
    this.checkInput(x);
    this.checkValues(x.shape, 'the batch');
    return scope(() => this.#normalizeAcross(inKernelFormat(x)));
  }

  #normalizeAcross(x: Tensor): Tensor {
    const { weight, bias, eps } = this;
    const sizes = [x.sizeOf(0)];
    const [mean, variance] = groupMoments(x, sizes);
    const slopes = this.#slopes(x, mean);
    const [blendedMean, blendedVariance, share] = noGrad(() => {
      const { pastMeans, pastVariances, pastValid, burnIn } = this;
      const [shift, batches] = [this.#shift(), this.numBatchesTracked!];
      return blendWindow({ mean, variance, pastMeans, pastVariances, pastValid, shift, batches, burnIn });
    });
    const values = x.numel() / this.features;
    moveStatistics(this, { mean, variance, factor: values / (values - 1) }, this.countBatch());
    if (slopes !== null) noGrad(() => this.#remember(slopes));
    const blended = { mean: blendedMean, variance: blendedVariance, ownMean: mean, share };
    return normalizeBy(x, weight, bias, blended, sizes, eps);
  }

  /** ∂μ/∂θ and ∂σ²/∂θ: channel c's statistics depend on row c of θ alone, so one pass each gives all of them. */
  #slopes(x: Tensor, mean: Tensor): { mean: Tensor; variance: Tensor } | null {
    const producer = this.#producer;
    if (producer === null) return null;
    const values = x.numel() / this.features;
    const centred = noGrad(() => x.sub(alongChannels(mean, x).to({ dtype: x.dtype })).mul(2 / values));
    const slope = (gradOutput: Tensor): Tensor => {
      const [found] = grad(x, producer, { gradOutputs: [gradOutput], retainGraph: true, allowUnused: true });
      if (!found) {
        throw new InvalidArgumentError(
          `${this.constructor.name}: the input was not computed from the producer's weight; give the weight of the layer just before`,
        );
      }
      return found;
    };
    return { mean: slope(torch.fullLike(centred, 1 / values)), variance: slope(centred) };
  }

  /** To first order, by how much earlier means and variances about them change with θ: ν = σ² + μ². */
  #shift(): { mean: Tensor; variance: Tensor } | null {
    if (this.#producer === null) return null;
    const change = this.#producer.detach().sub(this.pastWeights!);
    const along = (slopes: Tensor): Tensor => slopes.mul(change).flatten(2).sum([2]);
    return { mean: along(this.meanSlopes!), variance: along(this.varianceSlopes!) };
  }

  #remember(slopes: { mean: Tensor; variance: Tensor }): void {
    const put = (rows: Tensor, newest: Tensor): void => {
      if (this.window > 2) rows.copy_(rows.roll(1, 0));
      rows.select(0, 0).copy_(newest);
    };
    put(this.pastWeights!, this.#producer!.detach());
    put(this.meanSlopes!, slopes.mean);
    put(this.varianceSlopes!, slopes.variance);
  }
}
