import { InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite, type BatchNorm } from './batch-norm';
import { groupMoments, normalizeBy, type BlendedStatistics } from './operators';

/** What {@link UnMixTns} takes besides a trained batch norm. */
export interface UnMixTnsOptions {
  /** K. Default 16, as in the paper. */
  components?: number;
  /** α: how much of the variance is spread over the components' means at first. Default 0.5. */
  spread?: number;
  /** The temperature of the assignment. Default 0.07. */
  temperature?: number;
  /** λ: how fast components move. Default: from the batch norm's momentum m and `batchSize`, 1 − (1 − m)^(batchSize / 64). */
  momentum?: number;
  /** The size of the test batches, for the default of `momentum`. Default 64. */
  batchSize?: number;
  /** Where the components' first means come from, on the CPU; default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * Un-mixing test-time normalisation statistics: a layer that takes a trained batch norm's place at test time, for streams whose
 * batches are small or hold few classes at a time.
 *
 * K components hold means μ_k and variances σ²_k. Each sample b with its own mean μ̃_b and biased variance σ̃²_b over positions, a
 * channel, is assigned by p_bk = softmax_k(cos(μ̃_b, μ_k) / temperature) and normalised by
 * m_bk = (1 − p_bk)·μ_k + p_bk·μ̃_b, v_bk likewise, mean_b = mean_k m_bk, var_b = mean_k v_bk + mean_k m_bk² − mean_b²:
 * y = (x − mean_b) / √(var_b + eps) · γ + β. Then the components move: μ_k ← μ_k + λ·mean_b p_bk·(μ̃_b − μ_k), σ²_k likewise.
 * At first μ_k = μ + σ·√(α·K / (K − 1))·ε with standard normal ε, and σ²_k = (1 − α)·σ²; with K = 1 just μ and σ².
 *
 * For x [N, C, L…] in float32, float64, bfloat16 or float16; [N, C] has no positions to take a mean over and is normalised by the
 * source's running statistics, as in the authors' code. Each sample, also a single one, is normalised the same in training and
 * evaluation mode, and each forward pass moves the components, unless {@link UnMixTns.adapting} is false. Gradients flow through x,
 * γ, β and the sample's own statistics, not through p, so that methods which adapt γ and β go on top. State: `weight`, `bias`,
 * `sourceMean`, `sourceVar`, [features], `runningMeans`, `runningVars`, [K, features].
 *
 * Tomar, Vray, Thiran and Bozorgtabar 2024, Un-Mixing Test-Time Normalization Statistics: Combatting Label Temporal Correlation.
 */
export class UnMixTns extends Module {
  readonly features: number;
  readonly eps: number;
  readonly components: number;
  readonly temperature: number;
  readonly momentum: number;
  readonly nonFinite: 'ignore' | 'raise';
  /** Whether forward passes move the components. Default true. */
  adapting = true;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly sourceMean: Tensor;
  readonly sourceVar: Tensor;
  readonly runningMeans: Tensor;
  readonly runningVars: Tensor;

  /**
   * @param source a trained batch norm; its values are copied
   * @throws InvalidArgumentError for a batch norm without running statistics, or options that do not fit
   */
  constructor(source: BatchNorm, options: UnMixTnsOptions = {}) {
    super();
    const { components = 16, spread = 0.5, temperature = 0.07, batchSize = 64, generator = null } = options;
    const { runningMean, runningVar, features } = source;
    if (runningMean === null || runningVar === null) {
      throw new InvalidArgumentError('UnMixTns: the batch norm keeps no running statistics to start from');
    }
    this.features = features;
    this.eps = source.eps;
    this.nonFinite = source.nonFinite;
    this.components = positiveInteger(components, 'UnMixTns: components');
    numberWithin(0, 1, spread, 'UnMixTns: spread');
    this.temperature = numberWithin(Number.MIN_VALUE, Infinity, temperature, 'UnMixTns: temperature');
    positiveInteger(batchSize, 'UnMixTns: batchSize');
    const { momentum = 1 - (1 - (source.momentum ?? 0.1)) ** (batchSize / 64) } = options;
    this.momentum = numberWithin(0, 1, momentum, 'UnMixTns: momentum');
    const copy = (values: Tensor | null): Parameter | null =>
      values === null ? null : new Parameter(values.detach().clone());
    this.weight = copy(source.weight);
    this.bias = copy(source.bias);
    this.sourceMean = this.registerBuffer('sourceMean', runningMean.clone());
    this.sourceVar = this.registerBuffer('sourceVar', runningVar.clone());
    const alpha = components === 1 ? 0 : spread;
    const [means, variances] = noGrad(() => {
      const noise = torch.randn([components, features], { generator }).to({
        device: runningMean.device,
        dtype: runningMean.dtype,
      });
      const scale = components === 1 ? 0 : Math.sqrt((alpha * components) / (components - 1));
      const spreadMeans = noise.mul(runningVar.sqrt()).mul(scale).add(runningMean);
      return [spreadMeans, runningVar.mul(1 - alpha).repeat([components, 1])] as const;
    });
    this.runningMeans = this.registerBuffer('runningMeans', means);
    this.runningVars = this.registerBuffer('runningVars', variances);
  }

  /** @throws InvalidArgumentError if the shape does not fit */
  override forward(x: Tensor): Tensor {
    if (x.ndim < 2 || x.shape[1] !== this.features || x.numel() === 0) {
      throw new InvalidArgumentError(
        `UnMixTns: expected [N, ${this.features}, …] that is not empty, found shape [${x.shape.join(', ')}]`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, 'UnMixTns');
    const { weight, bias, sourceMean, sourceVar, eps } = this;
    if (x.ndim === 2) return torch.batchNorm(x, weight, bias, sourceMean, sourceVar, false, 0, eps, true);
    return scope(() => this.#normalize(x));
  }

  #normalize(x: Tensor): Tensor {
    const statistics = noGrad(() => this.#statistics(x));
    return normalizeBy(x, this.weight, this.bias, statistics, [], this.eps);
  }

  /** Of each sample, from its own and the components', and how they follow its own. */
  #statistics(x: Tensor): BlendedStatistics {
    const [ownMean, ownVariance] = groupMoments(x, []);
    const { dtype } = ownMean;
    const { components } = this;
    const means = this.runningMeans.to({ dtype });
    const variances = this.runningVars.to({ dtype });
    const unit = (values: Tensor): Tensor => values.div(values.norm(2, [1], true).clampMin(1e-12));
    const shares = unit(ownMean).matmul(unit(means).t()).div(this.temperature).softmax(1);
    const rest = shares.neg().add(1);
    const own = shares.mean([1], true);
    const mean = rest.matmul(means).div(components).addcmul_(ownMean, own);
    // m_bk − mean_b, [N, K, C]: about the mean, so that nothing cancels.
    const distances = torch.lerp(means, ownMean.unsqueeze(1), shares.unsqueeze(2)).sub_(mean.unsqueeze(1));
    const between = distances.square().mean([1]);
    const variance = rest.matmul(variances).div(components).addcmul_(ownVariance, own).add_(between);
    // The derivative of the mean of (m_bk − mean_b)² by μ̃_b.
    const slope = shares
      .unsqueeze(1)
      .matmul(distances)
      .squeeze(1)
      .mul_(2 / components);
    if (this.adapting) this.#adapt(shares, ownMean, ownVariance);
    return { mean, variance, ownMean, share: own.expandAs(mean), slope };
  }

  #adapt(shares: Tensor, mean: Tensor, variance: Tensor): void {
    const samples = shares.sizeOf(0);
    const weights = shares.t().mul(this.momentum / samples);
    const kept = weights.sum([1], true).neg().add(1);
    const move = (rows: Tensor, found: Tensor): void => {
      rows.copy_(rows.to({ dtype: found.dtype }).mul(kept).add(weights.matmul(found)));
    };
    move(this.runningMeans, mean);
    move(this.runningVars, variance);
  }
}
