/** Hydra, also SimLAP: any two samples as positives, in a subspace that their classes' pair opens. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { init, Linear, Module, Parameter, ReLU, Sequential } from '../../nn';
import {
  checkDevice,
  checkIds,
  checkNumber,
  checkPaired,
  checkShape,
  checkTemperature,
  reduced,
  widened,
  type Reduction,
} from './parts';

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
 * for each class and a network f of two layers.
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

/** What {@link gatedContrastive} takes beside embeddings and gates. */
export interface GatedContrastiveOptions {
  /** τ. Default 0.1. */
  temperature?: number | Tensor;
  /** λ, the weight of Σ g(1−g)/D, which draws gates to 0 and 1. Default 0. The form of the penalty is this library's. */
  gatePenalty?: number;
  reduction?: Reduction;
}

/**
 * Hydra, in its second version SimLAP (Wu et al. 2024, "Rethinking Positive Pairs in Contrastive Learning"): InfoNCE in the subspace of a pair's
 * classes, so that samples of any two classes can be positives in what they share.
 *
 *     sᵢⱼ = cos(xᵢ ⊙ gᵢ, yⱼ ⊙ gᵢ)
 *     Lᵢ = −log( exp(sᵢᵢ/τ) / Σⱼ exp(sᵢⱼ/τ) ),   and the same with x and y exchanged; the mean of both
 *
 * All of an anchor's candidates go through the gate of its pair. It is dense, N×N and not N×N×D: the gated lengths are a product of matrices too.
 * The loss is from memory of the paper, which was not to be had as a whole.
 *
 * @param first [N, D]
 * @param second [N, D]: row i is what row i is paired with
 * @param gates [N, D]: as {@link ClassPairGate} gives them; not negative
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for one pair
 * @throws InvalidArgumentError if shapes do not fit
 */
export function gatedContrastive(
  first: Tensor,
  second: Tensor,
  gates: Tensor,
  options: GatedContrastiveOptions = {},
): Tensor {
  const { temperature = 0.1, gatePenalty = 0, reduction } = options;
  checkPaired(first, second, 'gatedContrastive');
  checkTemperature(temperature, 'gatedContrastive');
  checkNumber(gatePenalty, 'gatedContrastive: gatePenalty');
  checkShape(gates, first.shape, 'gatedContrastive: gates');
  checkDevice(gates, first, 'gatedContrastive: gates');
  if (!gates.isFloatingPoint()) {
    throw new InvalidArgumentError(`gatedContrastive: gates must be floating-point, found ${gates.dtype}`);
  }
  return withoutAutocast(first, () => {
    const [x, y, g] = widened(first, second, gates);
    const scale = typeof temperature === 'number' ? x.newFull([], temperature) : temperature.reshape([]);
    const squares = g.square();
    const direction = (anchors: Tensor, candidates: Tensor): Tensor => {
      const products = anchors.mul(squares).matmul(candidates.t());
      const lengths = squares.matmul(candidates.square().t()).clampMin(1e-24).sqrt();
      const own = squares.mul(anchors.square()).sum([1], true).clampMin(1e-24).sqrt();
      const scores = products.div(lengths).div(own).div(scale);
      return scores.logsumexp([1]).sub(scores.diagonal());
    };
    const losses = direction(x, y).add(direction(y, x)).div(2);
    const all = gatePenalty === 0 ? losses : losses.add(g.mul(g.neg().add(1)).mean([1]).mul(gatePenalty));
    return reduced(all, reduction);
  });
}
