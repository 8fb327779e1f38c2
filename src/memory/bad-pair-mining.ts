import { keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import type { JsonObject, StateDict } from '../torch/state';
import { integerFrom, numberWithin, positiveInteger } from '../nn/checks';
import { checkColumn, checkPositions, stateCount, stateValues } from './checks';
import { TensorStore } from './tensor-store';

/** What {@link BadPairMining} is made from. */
export interface BadPairMiningOptions {
  /** How many positive pairs the data set has: one a sample. */
  samples: number;
  /** T: how many epochs the training has. */
  epochs: number;
  /** How many epochs pass before pairs lose weight. Default 50, as in the authors' code for 80. */
  warmup?: number;
  /** β_np: how many standard deviations below the mean make a pair noisy. Default 2. */
  noisy?: number;
  /** β_fp: how many above make it faulty. Default 2 as the authors' command line has; their file of settings says 3. */
  faulty?: number;
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * Dynamic bad pair mining, DBPM (Lan, Yan, Hong and Feng 2024, "Towards Enhancing Time Series Contrastive Learning: A Dynamic Bad Pair Mining Approach"): the
 * losses of every positive pair are remembered, and pairs that were always suspiciously easy (noise aligned with noise) or hard (nothing in common) lose
 * weight.
 *
 *     mᵢ = mean over past epochs e of lossᵢ,ₑ · (e + 1)/T,   μ, σ = mean and standard deviation of all mᵢ, once an epoch
 *     noisy: mᵢ ≤ μ − β_np·σ,   faulty: mᵢ ≥ μ + β_fp·σ
 *     weightᵢ = normal density of the present loss with mean μ and deviation σ if noisy or faulty, else 1
 *
 * Checked against the authors' code. As there the density is not scaled, so that with σ below 0.4 it may be above 1. Where σ is 0 no pair is bad.
 * Pairs without a record do not enter μ and σ. Weights have no gradient. Takes two numbers a sample.
 *
 * ```ts
 * mining.startEpoch(epoch);
 * const loss = losses.mul(mining.weights(ids, losses)).mean(); // losses: [N], one a pair, not reduced
 * ```
 *
 * For series and other data whose augmentations spoil some pairs.
 */
export class BadPairMining extends TensorStore {
  readonly samples: number;
  readonly epochs: number;
  readonly warmup: number;
  readonly noisy: number;
  readonly faulty: number;
  #epoch = 0;
  /** Σ lossₑ · (e + 1)/T and how many were recorded. */
  readonly #sums: Tensor;
  readonly #counts: Tensor;
  readonly #bad: Tensor;
  /** μ and σ. */
  readonly #normal: Tensor;

  constructor(options: BadPairMiningOptions) {
    super();
    const what = 'BadPairMining';
    const { warmup = 50, noisy = 2, faulty = 2, device = 'cpu' } = options;
    this.samples = positiveInteger(options.samples, `${what}: samples`);
    this.epochs = positiveInteger(options.epochs, `${what}: epochs`);
    this.warmup = integerFrom(0, warmup, `${what}: warmup`);
    this.noisy = numberWithin(0, Infinity, noisy, `${what}: noisy`);
    this.faulty = numberWithin(0, Infinity, faulty, `${what}: faulty`);
    [this.#sums, this.#counts, this.#bad, this.#normal] = scope(() => [
      keep(torch.zeros([this.samples], { dtype: 'float64', device })),
      keep(torch.zeros([this.samples], { dtype: 'int64', device })),
      keep(torch.zeros([this.samples], { dtype: 'int8', device })),
      keep(torch.zeros([2], { dtype: 'float64', device })),
    ]);
  }

  /** The present epoch. */
  get epoch(): number {
    return this.#epoch;
  }

  /** What each pair is taken for in this epoch, int8 [samples]: −1 noisy, 1 faulty, 0 neither; a view. */
  verdicts(): Tensor {
    return this.#bad.detach();
  }

  /** Begins an epoch, from 0: from the warm-up's end on it finds the bad pairs by what was recorded before. */
  startEpoch(epoch: number): void {
    this.#epoch = integerFrom(0, epoch, 'BadPairMining: epoch');
    noGrad(() =>
      scope(() => {
        if (epoch < this.warmup) {
          this.#bad.zero_();
          return;
        }
        const known = this.#counts.gt(0);
        const means = this.#sums.div(this.#counts.clampMin(1));
        const many = known.sum().clampMin(1);
        const mean = means.sum().div(many);
        const zero = mean.newZeros([]);
        const deviation = torch.where(known, means.sub(mean), zero).square().sum().div(many).sqrt();
        this.#normal.copy_(torch.stack([mean, deviation]));
        const low = means.le(mean.sub(deviation.mul(this.noisy)));
        const high = means.ge(mean.add(deviation.mul(this.faulty)));
        const verdicts = high.to({ dtype: 'int8' }).sub(low.to({ dtype: 'int8' }));
        this.#bad.copy_(torch.where(known, verdicts, verdicts.newZeros([])));
      }),
    );
  }

  /**
   * Records the losses of a batch, and gives their weights, [N], of the losses' dtype.
   *
   * @param ids int64 [N], distinct
   * @param losses [N] of any floating-point dtype
   * @throws InvalidArgumentError if something does not fit, before anything changes
   */
  weights(ids: Tensor, losses: Tensor): Tensor {
    const what = 'BadPairMining';
    const count = ids.ndim === 1 ? ids.sizeOf(0) : 0;
    const dtype = losses.isFloatingPoint() ? losses.dtype : 'float32';
    checkColumn(losses, [count], dtype, this.device, what, 'losses');
    checkPositions(ids, this.samples, this.device, what, { count, distinct: true });
    return noGrad(() =>
      scope(() => {
        const values = losses.detach().to({ dtype: 'float64' });
        const scaled = values.mul((this.#epoch + 1) / this.epochs);
        this.#sums.indexCopy_(0, ids, this.#sums.indexSelect(0, ids).add(scaled));
        this.#counts.indexCopy_(0, ids, this.#counts.indexSelect(0, ids).add(1));
        const [mean, deviation] = this.#normal.unbind() as [Tensor, Tensor];
        const density = values
          .sub(mean)
          .div(deviation)
          .square()
          .div(-2)
          .exp()
          .div(deviation.mul(Math.sqrt(2 * Math.PI)));
        const isBad = this.#bad.indexSelect(0, ids).ne(0);
        return torch.where(isBad, density, density.newOnes([])).to({ dtype });
      }),
    );
  }

  override stateDict(): StateDict {
    return { ...super.stateDict(), values: { ...this.settings, epoch: this.#epoch } };
  }

  override checkStateDict(state: StateDict): void {
    super.checkStateDict(state);
    epochOf(state);
  }

  override loadStateDict(state: StateDict): void {
    super.loadStateDict(state);
    this.#epoch = epochOf(state);
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { sums: this.#sums, counts: this.#counts, verdicts: this.#bad, normal: this.#normal };
  }

  protected override get settings(): JsonObject {
    return { epochs: this.epochs };
  }
}

function epochOf(state: StateDict): number {
  const what = 'BadPairMining: the state dict';
  return stateCount(stateValues(state, {}, what), 'epoch', what);
}
