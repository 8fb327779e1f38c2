/** MEOW and AdaMEOW: negatives weighed by clusterings or by a learnt network, and prototypes. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional, Linear, Module } from '../../nn';
import { contrast } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  checkShape,
  checkTemperature,
  partitionLink,
  positionsOf,
  reduced,
  type Reduction,
  widened,
} from './parts';

/** What {@link meow} takes beside the embeddings. */
export interface MeowOptions {
  /** τ. Default 0.5. */
  temperature?: number | Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * MEOW's weighted InfoNCE (Yu and Li 2022, "Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Adaptively Weighted Negative
 * Samples"): what often falls into the anchor's cluster is a weak negative.
 *
 *     Lᵢ = −sᵢᵢ/τ + log Σⱼ γᵢⱼ exp(sᵢⱼ/τ)
 *     γᵢⱼ = the share of clusterings in which i and j are in different clusters
 *
 * The positive is in its own cluster, so it is not in the sum, and the loss may be negative. The authors' code has the number of clusterings
 * instead of the share: its loss is greater by the logarithm of how many there are. Each clustering is one pass through the scores.
 *
 * @param first [N, D]: the fine view
 * @param second [N, D]: the coarse view, row i of the same node
 * @param clusterings at least one, int64 [N] each: the clusters of the nodes, from runs of k-means with several numbers of clusters
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for a node that is never apart from any other
 * @throws InvalidArgumentError if shapes do not fit
 */
export function meow(first: Tensor, second: Tensor, clusterings: readonly Tensor[], options: MeowOptions = {}): Tensor {
  const { temperature = 0.5, reduction, execution } = options;
  checkPaired(first, second, 'meow');
  checkTemperature(temperature, 'meow');
  if (clusterings.length === 0) throw new InvalidArgumentError('meow: there are no clusterings');
  clusterings.forEach((clusters, i) => checkIds(clusters, first.sizeOf(0), `meow: clustering ${i}`, first));
  return withoutAutocast(first, () => {
    const sums = clusterings.map((labels) =>
      contrast({
        anchors: first,
        candidates: { embeddings: second, labels },
        labels,
        temperature,
        link: partitionLink,
        reduction: 'none',
        execution,
      }),
    );
    const each = torch.stack(sums, 1);
    const any = each.gt(-Infinity).any(1);
    // The gradient of a log-sum-exp over nothing is no number.
    const filled = torch.where(any.unsqueeze(1), each, each.newZeros([]));
    const all = filled.logsumexp([1]).sub(Math.log(clusterings.length));
    const [x, y] = widened(first, second).map((z) => functional.normalize(z));
    const scale = typeof temperature === 'number' ? temperature : temperature.reshape([]);
    const own = x!
      .mul(y!)
      .sum([1])
      .div(scale as Tensor);
    return reduced(torch.where(any, all.sub(own), own.newZeros([])), reduction);
  });
}

/** What {@link prototypeContrast} takes beside embeddings and clusters. */
export interface PrototypeContrastOptions {
  /** φ, each prototype's own temperature, [K]: its concentration. Default: `temperature` for all. */
  concentrations?: Tensor;
  /** Default 0.5. */
  temperature?: number;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * The prototypical term (ProtoNCE, Li et al. 2021, "Prototypical Contrastive Learning of Unsupervised Representations", as MEOW takes it): an
 * embedding is drawn to the centroid of its cluster.
 *
 *     Lᵢ = −log( exp(zᵢ·c_{k(i)}/φ_{k(i)}) / Σₖ exp(zᵢ·cₖ/φₖ) )
 *
 * Embeddings and prototypes are taken to length one. MEOW's code has N times the mean over k in place of the sum, which is a constant more.
 *
 * @param embeddings [N, D]
 * @param prototypes [K, D]. Detach them, if they come from the embeddings
 * @param clusters int64 [N]: each embedding's prototype
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for one prototype
 * @throws InvalidArgumentError if shapes do not fit
 */
export function prototypeContrast(
  embeddings: Tensor,
  prototypes: Tensor,
  clusters: Tensor,
  options: PrototypeContrastOptions = {},
): Tensor {
  const { concentrations, temperature = 0.5, reduction, execution } = options;
  checkEmbeddings(embeddings, 'prototypeContrast: embeddings');
  checkEmbeddings(prototypes, 'prototypeContrast: prototypes', embeddings.sizeOf(1));
  checkDevice(prototypes, embeddings, 'prototypeContrast: prototypes');
  checkIds(clusters, embeddings.sizeOf(0), 'prototypeContrast: clusters', embeddings);
  checkNumber(temperature, 'prototypeContrast: temperature', { above: true });
  const count = prototypes.sizeOf(0);
  if (concentrations !== undefined) checkShape(concentrations, [count], 'prototypeContrast: concentrations');
  return withoutAutocast(embeddings, () => {
    const [x, centres] = widened(embeddings, prototypes).map((z) => functional.normalize(z));
    const scaled =
      concentrations === undefined
        ? centres!.div(temperature)
        : centres!.div(concentrations.to({ dtype: centres!.dtype }).unsqueeze(1));
    return contrast({
      anchors: x!,
      candidates: { embeddings: scaled, labels: positionsOf(count, x!) },
      labels: clusters,
      similarity: 'dot',
      temperature: 1,
      reduction,
      execution,
    });
  });
}

/** What an {@link AdaMeow} is made from. */
export interface AdaMeowOptions {
  /** D, the size of embeddings. */
  dimension: number;
  /** The size of the hidden layer. Default 16, as the authors. */
  hidden?: number;
  /** τ. Default 0.5. */
  temperature?: number;
  device?: Device;
  dtype?: DType;
  /** Default: the device's default generator. */
  generator?: Generator;
}

/**
 * AdaMEOW (Yu and Li, "Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Adaptively Weighted Negative Samples"): MEOW whose weights
 * a small network learns with the encoders.
 *
 *     Lᵢ = −log( exp(sᵢᵢ/τ) / Σⱼ γᵢⱼ exp(sᵢⱼ/τ) ),   γᵢⱼ = σ( w·tanh(W(zᵢ + zⱼ) + b) + c )
 *
 * z are embeddings of length one and the sum has j = i in it, weighed as the others, as in the authors' code. It is dense: [N, N, hidden].
 */
export class AdaMeow extends Module<[Tensor, Tensor]> {
  readonly temperature: number;
  readonly inner: Linear;
  readonly outer: Linear;

  constructor(options: AdaMeowOptions) {
    super();
    const { dimension, hidden = 16, temperature = 0.5, device, dtype, generator } = options;
    checkNumber(temperature, 'AdaMeow: temperature', { above: true });
    this.temperature = temperature;
    this.inner = new Linear({ inFeatures: dimension, outFeatures: hidden, device, dtype, generator });
    this.outer = new Linear({ inFeatures: hidden, outFeatures: 1, device, dtype, generator });
  }

  /** γ of all pairs, before the logistic function: [N, N]. */
  #logits(x: Tensor, y: Tensor): Tensor {
    // W(x + y) + b = (Wx + b) + Wy, so that the layer sees 2N vectors instead of N².
    const [left, right] = [this.inner.forward(x), y.matmul(this.inner.weight.t())];
    return this.outer.forward(left.unsqueeze(1).add(right.unsqueeze(0)).tanh()).squeeze(2);
  }

  /**
   * @param first [N, D]: the fine view
   * @param second [N, D]: the coarse view, row i of the same node
   * @returns the loss, without dimensions
   * @throws InvalidArgumentError if shapes do not fit
   */
  override forward(first: Tensor, second: Tensor): Tensor {
    checkPaired(first, second, 'AdaMeow');
    return withoutAutocast(first, () => {
      const { dtype } = this.inner.weight;
      const [x, y] = [first, second].map((z) => functional.normalize(z.to({ dtype })));
      const scores = x!.matmul(y!.t()).div(this.temperature);
      return scores.add(this.#logits(x!, y!).logSigmoid()).logsumexp([1]).sub(scores.diagonal()).mean();
    });
  }
}
