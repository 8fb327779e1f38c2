import { Generator, InvalidArgumentError, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import type { StateDict } from '../torch/state';
import { functional } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkPositions, checkRows, positiveNumber, stateValues } from './checks';
import { wide } from './nearest';
import type { MemoryCandidates } from './ring-buffer';
import { TensorStore } from './tensor-store';

/** What an {@link InstanceBank} is made from. */
export interface InstanceBankOptions {
  /** n: how many samples the data set has. */
  samples: number;
  /** The size D of an embedding. */
  dimension: number;
  /** How much of the old entry an update keeps. Default 0.5, as in the authors' code. */
  momentum?: number;
  /** τ. Default 0.07. */
  temperature?: number;
  /** m: noise samples for each embedding. Default 4,096. */
  noiseSamples?: number;
  /**
   * Whether a batch shares one draw of noise samples. Default false, as in the authors' code, where each embedding has its own: that copies
   * N · m · D numbers, 0.5 GB for N = 256, m = 4096, D = 128. Shared ones copy m · D, and the loss has the same expectation.
   */
  sharedNoise?: boolean;
  /** λ of the proximal term. Default 0, as in the authors' released code; the paper's best was 30, by memory. */
  proximal?: number;
  /** Z, if it is known. Default: estimated from the first batch. */
  normalizer?: number;
  /** Seeds the random start and the noise. Default 0. */
  seed?: number;
  /** Default `'float32'`. */
  dtype?: 'float32' | 'float64';
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * Non-parametric instance discrimination, NPID (Wu, Xiong, Yu and Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance
 * Discrimination"): every sample is a class, and a bank of one embedding for each takes the place of a classifier's weights.
 *
 *     P(i | f) = exp(vᵢ·f/τ) / Z,   Z ≈ n · mean exp(vⱼ·f/τ)       estimated once, from the first batch's own and noise entries
 *     h(i, f) = P(i | f) / (P(i | f) + m/n)
 *     lossᵢ = −log h(i, fᵢ) − Σ_{j of m uniform noise samples} log(1 − h(j, fᵢ)) + λ‖fᵢ − vᵢ‖²
 *     update: vᵢ ← normalise(momentum · vᵢ + (1 − momentum) · fᵢ)
 *
 * Embeddings f are brought to length one here. Noise is drawn uniformly from all samples and may be the sample itself, as in the authors' code.
 * Losses and Z were checked against that code; its guard of 1e-7 in the logarithms is not needed here, where they are taken of softplus. The
 * proximal term and its λ are from memory: the paper was not to be had, and the released code is without. The bank starts with random
 * directions; the authors' has uniform numbers of about length one. Gradients flow to the embeddings, never into the bank. Noise is drawn on the
 * CPU, so that it is the same on every device.
 *
 * For data sets small enough for an embedding a sample, and to train without large batches.
 */
export class InstanceBank extends TensorStore {
  readonly samples: number;
  readonly dimension: number;
  readonly momentum: number;
  readonly temperature: number;
  readonly noiseSamples: number;
  readonly sharedNoise: boolean;
  readonly proximal: number;
  readonly #bank: Tensor;
  /** log Z; NaN before it is estimated. A tensor, so that a device need not be waited for. */
  readonly #logZ: Tensor;
  #hasZ: boolean;
  readonly #generator: Generator;

  constructor(options: InstanceBankOptions) {
    super();
    const what = 'InstanceBank';
    const { momentum = 0.5, temperature = 0.07, noiseSamples = 4096, sharedNoise = false, proximal = 0 } = options;
    const { normalizer, seed = 0, dtype = 'float32', device = 'cpu' } = options;
    this.samples = positiveInteger(options.samples, `${what}: samples`);
    this.dimension = positiveInteger(options.dimension, `${what}: dimension`);
    this.momentum = numberWithin(0, 1, momentum, `${what}: momentum`);
    this.temperature = positiveNumber(temperature, `${what}: temperature`);
    this.noiseSamples = positiveInteger(noiseSamples, `${what}: noiseSamples`);
    this.proximal = numberWithin(0, Infinity, proximal, `${what}: proximal`);
    this.sharedNoise = sharedNoise;
    if (normalizer !== undefined) positiveNumber(normalizer, `${what}: normalizer`);
    if (dtype !== 'float32' && dtype !== 'float64') {
      throw new InvalidArgumentError(`${what}: dtype must be float32 or float64, found ${String(dtype)}`);
    }
    this.#generator = new Generator({ seed });
    this.#hasZ = normalizer !== undefined;
    [this.#bank, this.#logZ] = noGrad(() =>
      scope(() => {
        const start = torch.randn([this.samples, this.dimension], { generator: this.#generator, dtype });
        const logZ = normalizer === undefined ? NaN : Math.log(normalizer);
        return [
          keep(functional.normalize(start).to({ device })),
          keep(torch.full([], logZ, { dtype, device })),
        ] as const;
      }),
    );
  }

  /** Z, or null before the first loss estimates it. Waits for the device. */
  get normalizer(): number | null {
    return this.#hasZ ? Math.exp(this.#logZ.itemSync() as number) : null;
  }

  /** All embeddings, [n, D]: a view, which updates change. */
  entries(): Tensor {
    return this.#bank.detach();
  }

  /**
   * The NCE loss of a batch against the bank as it is. Draws noise, and the first time sets Z.
   *
   * @param embeddings [N, D] of any floating-point dtype
   * @param ids which samples they are, int64 [N], from 0 to n − 1
   * @param options `reduction`: `'mean'` (default), `'sum'` or `'none'`
   * @returns the loss without dimensions, or [N]
   * @throws InvalidArgumentError if shapes, dtypes, devices or ids do not fit, before anything changes
   */
  loss(embeddings: Tensor, ids: Tensor, { reduction = 'mean' }: { reduction?: 'mean' | 'sum' | 'none' } = {}): Tensor {
    this.#check(embeddings, ids, false);
    const { samples, noiseSamples, temperature } = this;
    const count = embeddings.sizeOf(0);
    return withoutAutocast(embeddings, () =>
      scope(() => {
        const f = functional.normalize(wide(embeddings).to({ dtype: this.#bank.dtype }));
        const [own, noise] = noGrad(() => {
          const shape = this.sharedNoise ? [noiseSamples] : [count, noiseSamples];
          const drawn = torch.randint(samples, shape, { generator: this.#generator, dtype: 'int64' });
          const rows = this.#bank.indexSelect(0, drawn.flatten().to({ device: this.device }));
          return [
            this.#bank.indexSelect(0, ids),
            this.sharedNoise ? rows : rows.view([count, noiseSamples, this.dimension]),
          ] as const;
        });
        const positive = f.mul(own).sum([1], true).div(temperature);
        const negative = (this.sharedNoise ? f.matmul(noise.t()) : noise.matmul(f.unsqueeze(2)).squeeze(2)).div(
          temperature,
        );
        if (!this.#hasZ) {
          noGrad(() => {
            const scores = torch.cat([positive.expand([count, 1]), negative], 1).detach();
            const logMean = scores.flatten().logsumexp([0]).sub(Math.log(scores.numel()));
            this.#logZ.copy_(logMean.add(Math.log(samples))).dispose();
          });
          this.#hasZ = true;
        }
        // log P − log(m / n)
        const odds = (scores: Tensor): Tensor => scores.sub(this.#logZ).sub(Math.log(noiseSamples / samples));
        const losses = torch
          .softplus(odds(positive).neg())
          .squeeze(1)
          .add(torch.softplus(odds(negative)).sum([1]));
        const whole = this.proximal === 0 ? losses : losses.add(f.sub(own).square().sum([1]).mul(this.proximal));
        if (reduction === 'none') return whole;
        return reduction === 'sum' ? whole.sum() : whole.mean();
      }),
    );
  }

  /**
   * Moves the entries of a batch's samples towards their new embeddings. Call it once a step, before or after the backward pass.
   *
   * @param ids as for {@link InstanceBank.loss}, and distinct
   * @throws InvalidArgumentError as {@link InstanceBank.loss}, or if two ids are alike
   */
  update(embeddings: Tensor, ids: Tensor): void {
    this.#check(embeddings, ids, true);
    withoutAutocast(embeddings, () =>
      noGrad(() =>
        scope(() => {
          const f = functional.normalize(wide(embeddings.detach()).to({ dtype: this.#bank.dtype }));
          const old = this.#bank.indexSelect(0, ids);
          const moved = functional.normalize(old.mul(this.momentum).add(f.mul(1 - this.momentum)));
          this.#bank.indexCopy_(0, ids, moved);
        }),
      ),
    );
  }

  /** All entries with their samples' numbers as labels: for the whole softmax, with `contrast`. See {@link RingBuffer.candidates} for `copy`. */
  candidates({ copy = false }: { copy?: boolean } = {}): MemoryCandidates {
    return {
      embeddings: copy ? this.#bank.clone() : this.entries(),
      labels: torch.arange(this.samples, { dtype: 'int64', device: this.device }),
    };
  }

  override stateDict(): StateDict {
    return { ...super.stateDict(), values: { hasNormalizer: this.#hasZ } };
  }

  override checkStateDict(state: StateDict): void {
    super.checkStateDict(state);
    hasNormalizer(state);
  }

  override loadStateDict(state: StateDict): void {
    super.loadStateDict(state);
    this.#hasZ = hasNormalizer(state);
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { bank: this.#bank, logNormalizer: this.#logZ };
  }

  protected override get randomness(): Generator {
    return this.#generator;
  }

  #check(embeddings: Tensor, ids: Tensor, distinct: boolean): void {
    checkRows(embeddings, this.dimension, this.device, 'InstanceBank', 'embeddings');
    const count = embeddings.sizeOf(0);
    if (count === 0) throw new InvalidArgumentError('InstanceBank: there are no embeddings');
    checkPositions(ids, this.samples, this.device, 'InstanceBank', { count, distinct });
  }
}

function hasNormalizer(state: StateDict): boolean {
  const what = 'InstanceBank: the state dict';
  const { hasNormalizer: has } = stateValues(state, {}, what);
  if (typeof has !== 'boolean') throw new InvalidArgumentError(`${what}: 'hasNormalizer' must be true or false`);
  return has;
}
