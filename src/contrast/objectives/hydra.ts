/** Hydra, also SimLAP: any two samples as positives, in a subspace that their classes' pair opens. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkEmbeddings } from '../similarity';
import { maskedLogSumExp, softplus, whereAny } from '../logarithms';
import { init, Linear, Module, Parameter, ReLU, Sequential } from '../../nn';
import { checkDevice, checkIds, checkNumber, checkShape, checkTemperature, widened, type Reduction } from './parts';

/** What a {@link ClassPairGate} is made from. */
export interface ClassPairGateOptions {
  /** How many classes there are. */
  classes: number;
  /** D, the size of the embeddings that are gated. */
  dimension: number;
  /** The size of a class's vector and of the hidden layer. Default 256. */
  hidden?: number;
  device?: Device;
  dtype?: DType;
  /** Default: the device's default generator. */
  generator?: Generator;
}

/**
 * The gate of two classes, between 0 and 1 in each dimension and the same for both orders: g = σ(f( (v(y₁) + v(y₂)) / 2 )), with a learnt vector
 * for each class and a network f of two layers. The authors' code has another activation before f and batch normalisation before both of its
 * layers, vectors of 512 and a hidden layer of 1,024.
 */
export class ClassPairGate extends Module<[Tensor, Tensor]> {
  /** [classes, hidden], normal at first. */
  readonly vectors: Parameter;
  readonly network: Sequential;

  constructor(options: ClassPairGateOptions) {
    super();
    const { classes, dimension, hidden = 256, device, dtype, generator } = options;
    this.vectors = new Parameter(torch.empty([classes, hidden], { device, dtype }));
    init.normal_(this.vectors, 0, 1, { generator });
    this.network = new Sequential(
      new Linear({ inFeatures: hidden, outFeatures: hidden, device, dtype, generator }),
      new ReLU(),
      new Linear({ inFeatures: hidden, outFeatures: dimension, device, dtype, generator }),
    );
  }

  /**
   * @param first int64 [N]: the class of each pair's one sample
   * @param second int64 [N]: that of the other
   * @returns [N, dimension]
   * @throws InvalidArgumentError if these are no two lists of classes
   */
  override forward(first: Tensor, second: Tensor): Tensor {
    checkIds(first, first.numel(), 'ClassPairGate: first', this.vectors);
    checkIds(second, first.numel(), 'ClassPairGate: second', this.vectors);
    const middle = this.vectors.indexSelect(0, first).add(this.vectors.indexSelect(0, second)).div(2);
    return this.network.forward(middle).sigmoid();
  }
}

/** The classes of what {@link gatedContrastive} compares, int64. */
export interface GatedClasses {
  /** [N]: the class of each anchor. */
  anchors: Tensor;
  /** [N]: the class that each anchor is paired with; any, its own too. */
  partners: Tensor;
  /** [M]: the class of each candidate. */
  candidates: Tensor;
}

/** What {@link gatedContrastive} takes beside embeddings, gates and classes. */
export interface GatedContrastiveOptions {
  /** τ. Default 0.1, as in the authors' code. */
  temperature?: number | Tensor;
  /**
   * λ, the weight of the mean over all gates of g(1−g), which draws them to 0 and 1. Default 0, as in the authors' code. The paper has a penalty
   * with that aim; its form here is this library's.
   */
  gatePenalty?: number;
  /** `'mean'` over all pairs of an anchor and a positive (default), `'sum'` over them, or `'none'` for one sum an anchor. */
  reduction?: Reduction;
}

/**
 * Hydra, in its second version SimLAP (Wu et al. 2024, "Rethinking Positive Pairs in Contrastive Learning"): InfoNCE in the subspace of two
 * classes, so that samples of any two classes can be positives in what they share.
 *
 *     sᵢⱼ = cos(xᵢ ⊙ gᵢ, cⱼ ⊙ gᵢ) / τ
 *     Lᵢ = −Σ_{p∈P(i)} log( exp(sᵢₚ) / (exp(sᵢₚ) + Σ_{n∈N(i)} exp(sᵢₙ)) )
 *
 * P are the candidates of the class that the anchor is paired with, N those that are neither of that class nor of the anchor's own. Each positive
 * has a softmax of its own, as in the authors' code, which pairs the classes of a batch at random, takes the batch itself for candidates, and
 * lets an anchor meet itself where it is paired with its own class. All of an anchor's candidates go through its gate. It is dense, N×M and not
 * N×M×D: the gated lengths are a product of matrices too.
 *
 * @param anchors [N, D]
 * @param candidates [M, D]: the anchors themselves, or more
 * @param gates [N, D]: as {@link ClassPairGate} gives them for the anchors' classes and their partners; not negative
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 where there is no positive, or nothing that is none
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit
 */
export function gatedContrastive(
  anchors: Tensor,
  candidates: Tensor,
  gates: Tensor,
  classes: GatedClasses,
  options: GatedContrastiveOptions = {},
): Tensor {
  const { temperature = 0.1, gatePenalty = 0, reduction = 'mean' } = options;
  const what = 'gatedContrastive';
  checkEmbeddings(anchors, `${what}: anchors`);
  checkEmbeddings(candidates, `${what}: candidates`, anchors.sizeOf(1));
  checkDevice(candidates, anchors, `${what}: candidates`);
  checkTemperature(temperature, what);
  checkNumber(gatePenalty, `${what}: gatePenalty`);
  checkShape(gates, anchors.shape, `${what}: gates`);
  checkDevice(gates, anchors, `${what}: gates`);
  if (!gates.isFloatingPoint()) {
    throw new InvalidArgumentError(`${what}: gates must be floating-point, found ${gates.dtype}`);
  }
  checkIds(classes.anchors, anchors.sizeOf(0), `${what}: classes.anchors`, anchors);
  checkIds(classes.partners, anchors.sizeOf(0), `${what}: classes.partners`, anchors);
  checkIds(classes.candidates, candidates.sizeOf(0), `${what}: classes.candidates`, anchors);
  return withoutAutocast(anchors, () => {
    const [x, y, g] = widened(anchors, candidates, gates);
    const scale = typeof temperature === 'number' ? x.newFull([], temperature) : temperature.reshape([]);
    const squares = g.square();
    const products = x.mul(squares).matmul(y.t());
    const lengths = squares.matmul(y.square().t()).clampMin(1e-24).sqrt();
    const own = squares.mul(x.square()).sum([1], true).clampMin(1e-24).sqrt();
    const scores = products.div(lengths).div(own).div(scale);
    const of = (which: Tensor): Tensor => which.unsqueeze(1).eq(classes.candidates.unsqueeze(0));
    const positives = of(classes.partners);
    const sums = maskedLogSumExp(scores, positives.logicalOr(of(classes.anchors)).logicalNot(), 1);
    const losses = whereAny(sums, (some) =>
      torch.where(positives, softplus(some.unsqueeze(1).sub(scores)), scores.newZeros([])).sum([1]),
    );
    const penalty = g.mul(g.neg().add(1)).mean([1]).mul(gatePenalty);
    if (reduction === 'none') return losses.add(penalty);
    const sum = losses.sum();
    return reduction === 'sum' ? sum.add(penalty.sum()) : sum.div(positives.sum().clampMin(1)).add(penalty.mean());
  });
}
