/** Maximum likelihood of unnormalised models, with a moving average of the partition function. */
import { InvalidArgumentError, noGrad, torch, type Device, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { Module } from '../../nn';
import { checkDevice, checkNumber, checkShape, widened } from './parts';

/** What {@link Meco} is made from. */
export interface MecoOptions {
  /** β, the weight of the present batch in the moving average: above 0, at most 1. Default 0.1. */
  rate?: number;
  device?: Device;
}

/**
 * MECO (Jiang et al. 2023, "Learning Unnormalized Statistical Models via Compositional Optimization"): the likelihood of a model known up to its
 * partition function, which is written as an expectation over noise and followed from batch to batch.
 *
 *     L = −mean over data of f(x) + log u
 *     u ← (1 − β)·u + β·Z,   Z = mean over noise of exp(f(x̃)) / q(x̃)
 *
 * Its gradient is −∇ mean f + ∇Z / u: a batch's own Z would give a biased one. With β = 1, u is Z itself. Take an optimiser with momentum.
 * The update is from memory of the paper, which was not to be had; the first batch starts u at Z.
 *
 * log u is a buffer, `log_partition` in the state dict, float64, −∞ before the first batch. It moves in training mode only.
 */
export class Meco extends Module<[Tensor, Tensor, Tensor]> {
  readonly rate: number;
  /** log u. */
  readonly logPartition: Tensor;

  constructor(options: MecoOptions = {}) {
    super();
    const { rate = 0.1, device = 'cpu' } = options;
    checkNumber(rate, 'Meco: rate', { above: true, high: 1 });
    this.rate = rate;
    this.logPartition = this.registerBuffer('logPartition', torch.tensor(-Infinity, { dtype: 'float64', device }));
  }

  /**
   * @param dataScores [N]: f of the data
   * @param noiseScores [M]: f of samples of the noise
   * @param noiseLogDensities [M]: log q of the same samples
   * @returns the loss, without dimensions: the negative log-likelihood, as far as u is the partition function
   * @throws InvalidArgumentError if shapes do not fit, or there are no finite scores
   */
  override forward(dataScores: Tensor, noiseScores: Tensor, noiseLogDensities: Tensor): Tensor {
    for (const [name, scores] of Object.entries({ dataScores, noiseScores })) {
      if (scores.ndim !== 1 || scores.numel() === 0) {
        throw new InvalidArgumentError(`Meco: ${name}: expected shape [N], found [${scores.shape.join(', ')}]`);
      }
      checkDevice(scores, this.logPartition, `Meco: ${name}`);
    }
    checkShape(noiseLogDensities, noiseScores.shape, 'Meco: noiseLogDensities');
    return withoutAutocast(dataScores, () => {
      const [data, noise, densities] = widened(dataScores, noiseScores, noiseLogDensities);
      const logZ = noise.sub(densities).logsumexp([0]).sub(Math.log(noise.numel()));
      const logU = noGrad(() => this.#follow(logZ.detach().to({ dtype: 'float64' }))).to({ dtype: data.dtype });
      // Its value is log u, its gradient that of Z over u.
      const ratio = logZ.sub(logU).exp();
      return logU.add(ratio.sub(ratio.detach())).sub(data.mean());
    });
  }

  #follow(logZ: Tensor): Tensor {
    const before = this.logPartition;
    if (this.training) {
      const isFirst = before.itemSync() === -Infinity;
      if (isFirst || this.rate === 1) before.copy_(logZ);
      else before.copy_(before.add(Math.log1p(-this.rate)).logaddexp(logZ.add(Math.log(this.rate))));
      return before.clone();
    }
    return before.itemSync() === -Infinity ? logZ : before.clone();
  }
}
