import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { integerFrom, numberWithin } from '../nn/checks';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import { groupMoments, moveStatistics, normalizeBy } from './operators';

/** What batch renormalisation is made from. */
export interface BatchRenormOptions extends Omit<BatchNormOptions, 'trackRunningStats'> {
  /** The final limit of r: it lies in [1 / rMax, rMax]. Default 3. */
  rMax?: number;
  /** The final limit of d: it lies in [−dMax, dMax]. Default 5. */
  dMax?: number;
  /** How many batches at the start are normalised as by plain batch norm (r = 1, d = 0). Default 5,000. */
  plainBatches?: number;
  /** After how many batches r has its final limit; before, it grows linearly from 1. Default 40,000. */
  rampR?: number;
  /** After how many batches d has its final limit; before, it grows linearly from 0. Default 25,000. */
  rampD?: number;
}

/**
 * How CrossQ uses batch renormalisation (Bhatt, Palenicek et al. 2024): plain batch norm for 100,000 batches, then the full limits at
 * once, running statistics that move by 0.01 a batch (0.99 in the authors' terms) and a large eps.
 */
export const crossqRenorm = {
  rMax: 3,
  dMax: 5,
  plainBatches: 100_000,
  rampR: 100_000,
  rampD: 100_000,
  momentum: 0.01,
  eps: 1e-3,
} as const;

/**
 * Batch renormalisation: y = ((x − μ_B) / σ_B · r + d) · γ + β a channel in training, with σ = √(variance + eps),
 * r = clip(σ_B / σ, 1 / rMax, rMax) and d = clip((μ_B − μ) / σ, −dMax, dMax), where μ and σ are the running statistics before this
 * batch. r and d are constants for the gradient. Where neither is at its limit, training gives what evaluation would. Evaluation,
 * parameters, shapes, dtypes and state are those of {@link BatchNorm}; the limits follow from `numBatchesTracked`, so a resumed run
 * goes on exactly. The running variance is of biased variances, as in the paper (which averages σ_B rather than its square).
 *
 * The defaults of the limits are the paper's. Use it where batches are small or not alike, and where training and evaluation must
 * agree; in reinforcement learning see {@link crossqRenorm} and {@link jointForward}.
 *
 * Ioffe 2017, Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models.
 */
export abstract class BatchRenorm extends BatchNorm {
  readonly rMax: number;
  readonly dMax: number;
  readonly plainBatches: number;
  readonly rampR: number;
  readonly rampD: number;

  /** @throws InvalidArgumentError for limits or numbers of batches that do not fit */
  constructor(options: BatchRenormOptions) {
    super(options);
    const { rMax = 3, dMax = 5, plainBatches = 5_000 } = options;
    const { rampR = Math.max(40_000, plainBatches), rampD = Math.max(25_000, plainBatches) } = options;
    const layer = new.target.name;
    if (!this.trackRunningStats) {
      throw new InvalidArgumentError(`${layer}: needs running statistics; leave trackRunningStats out`);
    }
    this.rMax = numberWithin(1, Infinity, rMax, `${layer}: rMax`);
    this.dMax = numberWithin(0, Infinity, dMax, `${layer}: dMax`);
    this.plainBatches = integerFrom(0, plainBatches, `${layer}: plainBatches`);
    this.rampR = integerFrom(plainBatches, rampR, `${layer}: rampR`);
    this.rampD = integerFrom(plainBatches, rampD, `${layer}: rampD`);
  }

  override forward(x: Tensor): Tensor {
    if (!this.training) return super.forward(x);
    this.checkInput(x);
    this.checkValues(x.shape, 'the batch');
    return scope(() => this.#renormalize(x));
  }

  #renormalize(x: Tensor): Tensor {
    const { eps } = this;
    const runningMean = this.runningMean!;
    const runningVar = this.runningVar!;
    const sizes = [x.sizeOf(0)];
    const [mean, variance] = groupMoments(x, sizes);
    const correction = noGrad(() => {
      const running = runningVar.add(eps);
      const r = variance.add(eps).div(running).sqrt_();
      const d = mean.sub(runningMean).div(running.sqrt_());
      return this.#limited(r, d);
    });
    const momentum = this.countBatch();
    moveStatistics(this, { mean, variance }, momentum);
    return normalizeBy(x, this.weight, this.bias, { mean, variance, ownMean: mean, correction }, sizes, eps);
  }

  /** r and d within the limits for the coming batch. */
  #limited(r: Tensor, d: Tensor): { r: Tensor; d: Tensor } {
    const { plainBatches, rampR, rampD } = this;
    const batches = this.numBatchesTracked!;
    if (batches.device === 'cpu') {
      const past = batches.itemSync() - plainBatches;
      const ramp = (end: number) =>
        end > plainBatches ? Math.min(Math.max(past / (end - plainBatches), 0), 1) : Number(past >= 0);
      const [rMax, dMax] = [1 + ramp(rampR) * (this.rMax - 1), ramp(rampD) * this.dMax];
      return { r: r.clamp_(1 / rMax, rMax), d: d.clamp_(-dMax, dMax) };
    }
    // Worked out on the device, so that nothing waits for it.
    const past = batches.to({ dtype: 'float64' }).sub(plainBatches);
    const ramp = (end: number) => (end > plainBatches ? past.div(end - plainBatches).clamp(0, 1) : past.ge(0));
    const { dtype } = r;
    const rMax = ramp(rampR).mul(this.rMax - 1).add(1).to({ dtype }); // prettier-ignore
    const dMax = ramp(rampD).mul(this.dMax).to({ dtype });
    return { r: r.clamp(rMax.reciprocal(), rMax), d: d.clamp(dMax.neg(), dMax) };
  }
}

/**
 * CrossQ's joint forward pass: the batches are joined, go through the network together and are taken apart again, so that batch norm
 * sees one distribution. In CrossQ these are the pairs (s, a) and (s', a') of a step: Q-values and next Q-values come from one pass,
 * and the latter are detached for the target.
 *
 * @param encode gives one row a sample, in the order of its input; several inputs are joined one by one
 * @param batches each the inputs of one batch, all with as many inputs; the batches may differ in size
 * @returns what `encode` gives for each batch
 * @throws InvalidArgumentError for no batch, or batches with different numbers of inputs
 *
 * Bhatt, Palenicek et al. 2024, CrossQ: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency and
 * Simplicity.
 */
export function jointForward(
  encode: (...joined: Tensor[]) => Tensor,
  ...batches: readonly (readonly Tensor[])[]
): Tensor[] {
  const inputs = batches[0]?.length ?? 0;
  if (inputs === 0 || batches.some((batch) => batch.length !== inputs)) {
    throw new InvalidArgumentError(
      `jointForward: each batch needs the same inputs, at least one; found ${batches.map((batch) => batch.length).join(', ') || 'none'}`,
    );
  }
  const sizes = batches.map((batch) => batch[0]!.sizeOf(0));
  return scope(() => {
    const joined = Array.from({ length: inputs }, (_, input) => torch.cat(batches.map((batch) => batch[input]!)));
    return [...encode(...joined).split(sizes)];
  });
}
