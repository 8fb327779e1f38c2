/** Non-negative contrastive learning: features that are switched on or off, and measures of how well they come apart. */
import { defineFunction, InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { functional, Module } from '../../nn';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import { checkIds, checkPaired, checkTemperature, positionsOf, widened, type Reduction } from './parts';

/**
 * max(0, x), with the gradient of GELU, x·Φ(x): Φ(x) + x·φ(x), with the normal distribution Φ and its density φ. Units that are off still learn.
 * The gradient is not that of the value, so finite differences do not confirm it.
 */
export const repRelu: (x: Tensor) => Tensor = defineFunction({
  name: 'repRelu',
  forward(context, x: Tensor) {
    context.save(x);
    return x.relu();
  },
  backward(context, gradient) {
    const x = context.saved[0]!;
    const distribution = x.div(Math.SQRT2).erf().add(1).div(2);
    const density = x
      .square()
      .div(-2)
      .exp()
      .div(Math.sqrt(2 * Math.PI));
    return gradient.mul(distribution.add(x.mul(density)));
  },
});

/** {@link repRelu} as a layer, for the end of a projection head. */
export class RepReLU extends Module {
  override forward(x: Tensor): Tensor {
    return repRelu(x);
  }
}

/** What makes features non-negative. */
export type NonNegativeActivation = 'repRelu' | 'relu' | 'sigmoid' | 'softplus' | 'exp' | 'none';

const activations: Readonly<Record<NonNegativeActivation, (x: Tensor) => Tensor>> = {
  repRelu,
  relu: (x) => x.relu(),
  sigmoid: (x) => x.sigmoid(),
  softplus: (x) => x.softplus(),
  exp: (x) => x.exp(),
  none: (x) => x,
};

/** What {@link nonNegativeContrastive} takes beside the embeddings. */
export interface NonNegativeContrastiveOptions {
  /** Default `'repRelu'`. The authors also tried the others; `'none'` is the ordinary loss. */
  activation?: NonNegativeActivation;
  /** τ. Default 0.2, as the library that the authors build on has it for SimCLR on small images. */
  temperature?: number | Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * NCL (Wang et al. 2024, "Non-negative Contrastive Learning"): NT-Xent on features that cannot be negative, as in non-negative matrix
 * factorisation. Features become sparse, and each stands for something.
 *
 *     zᵢ = activation(xᵢ) / ‖activation(xᵢ)‖
 *     Lᵢ = −log( exp(zᵢ·z_pair(i)/τ) / Σ_{j≠i} exp(zᵢ·zⱼ/τ) ),   over the 2N views of both batches
 *
 * @param first [N, D], before the activation
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss without dimensions, or [2N] with reduction `'none'`, the first views before the second
 * @throws InvalidArgumentError if shapes do not fit
 */
export function nonNegativeContrastive(
  first: Tensor,
  second: Tensor,
  options: NonNegativeContrastiveOptions = {},
): Tensor {
  const { activation = 'repRelu', temperature = 0.2, reduction, execution } = options;
  checkPaired(first, second, 'nonNegativeContrastive');
  checkTemperature(temperature, 'nonNegativeContrastive');
  const count = first.sizeOf(0);
  const views = activations[activation](torch.cat([first, second]));
  const samples = positionsOf(count, first);
  const labels = torch.cat([samples, samples]);
  const ids = positionsOf(2 * count, first);
  return contrast({
    anchors: views,
    candidates: { embeddings: views, labels, ids },
    labels,
    ids,
    temperature,
    reduction,
    execution,
  });
}

/** Measures of a set of features, as numbers. */
export interface FeatureStatistics {
  /** How many dimensions are not 0 for some sample. */
  activeDimensions: number;
  /** The share of elements within 1e-5 of 0. */
  sparsity: number;
  /** The entropy of the singular values divided by their sum, in nats. Some call its exponential the effective rank. */
  effectiveRank: number;
  /** The mean absolute difference of the active dimensions' matrix of cosines from the identity: 0 where they are orthogonal. */
  orthogonality: number;
  /** Only with labels: over active dimensions, the mean share of the most frequent label among the samples that switch it on. */
  semanticConsistency?: number;
}

/**
 * Measures of how sparse, spread and meaningful features are, as the authors of NCL log them. They are taken of features of length one.
 *
 * @param features [N, D]
 * @param labels int64 [N], from 0
 * @throws InvalidArgumentError if shapes do not fit, or all features are 0
 */
export function featureStatistics(features: Tensor, labels?: Tensor): FeatureStatistics {
  checkEmbeddings(features, 'featureStatistics: features');
  if (labels !== undefined) checkIds(labels, features.sizeOf(0), 'featureStatistics: labels', features);
  return scope(() =>
    noGrad(() => {
      const [wide] = widened(features.detach());
      const x = functional.normalize(wide);
      const active = x.abs().sum([0]).gt(0);
      const activeDimensions = active.sum().itemSync();
      if (activeDimensions === 0) throw new InvalidArgumentError('featureStatistics: all features are 0');
      const used = x.indexSelect(1, active.nonzero().squeeze(1));
      const values = torch.linalgSvdvals(x);
      const shares = values.div(values.sum());
      const columns = functional.normalize(used, { dim: 0 });
      const identity = torch.eye(activeDimensions, { dtype: x.dtype, device: x.device });
      const measures: FeatureStatistics = {
        activeDimensions,
        sparsity: x.abs().le(1e-5).to({ dtype: x.dtype }).mean().itemSync(),
        effectiveRank: shares.mul(shares.add(1e-6).log()).sum().neg().itemSync(),
        orthogonality: columns.t().matmul(columns).sub(identity).abs().mean().itemSync(),
      };
      return labels === undefined ? measures : { ...measures, semanticConsistency: consistencyOf(used, labels) };
    }),
  );
}

function consistencyOf(used: Tensor, labels: Tensor): number {
  const on = used.abs().gt(1e-5).to({ dtype: used.dtype });
  const counts = labels.oneHot().to({ dtype: used.dtype }).t().matmul(on);
  const totals = counts.sum([0]);
  const any = totals.gt(0);
  const shares = counts.amax([0]).div(totals.clampMin(1));
  return shares.sum().div(any.sum().clampMin(1)).itemSync();
}
