/** Bounds of mutual information from the scores of a critic, and critics. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { init, Linear, Module, Parameter, ReLU, Sequential } from '../../nn';
import { checkEmbeddings } from '../similarity';
import { positionsOf, widened } from './parts';

/**
 * The InfoNCE bound of mutual information (van den Oord et al. 2018; as compared by Tschannen et al. 2020, "On Mutual Information Maximization
 * for Representation Learning"):
 *
 *     I_NCE = 1/K Σᵢ log( exp(f(xᵢ, yᵢ)) / (1/K Σⱼ exp(f(xᵢ, yⱼ))) )
 *
 * It is at most log K. Its negative is a loss: the InfoNCE loss less log K. For embeddings whose dot product is the critic, `contrast` gives
 * the same without a matrix.
 *
 * @param scores [K, K]: f of row i's x and column j's y; the pairs that belong together are on the diagonal
 * @returns the bound in nats, without dimensions, to be made greater; 0 for K = 1
 * @throws InvalidArgumentError if the scores are not square
 */
export function infoNceBound(scores: Tensor): Tensor {
  checkScores(scores, 'infoNceBound');
  return withoutAutocast(scores, () => {
    const [wide] = widened(scores);
    return wide
      .diagonal()
      .sub(wide.logsumexp([1]))
      .mean()
      .add(Math.log(wide.sizeOf(0)));
  });
}

/**
 * The bound of Nguyen, Wainwright and Jordan (2010; as compared by Tschannen et al. 2020, "On Mutual Information Maximization for Representation
 * Learning"):
 *
 *     I_NWJ = mean over i of f(xᵢ, yᵢ) − e⁻¹ · mean over i≠j of exp(f(xᵢ, yⱼ))
 *
 * It is not limited by log K, but varies more; it overflows for scores above some 88 in float32. At the best critic, f is 1 + the log of the
 * density ratio.
 *
 * @param scores [K, K], K at least 2, as for {@link infoNceBound}
 * @returns the bound in nats, without dimensions, to be made greater
 * @throws InvalidArgumentError if the scores are not square, or K is 1
 */
export function nwjBound(scores: Tensor): Tensor {
  checkScores(scores, 'nwjBound');
  const count = scores.sizeOf(0);
  if (count < 2) throw new InvalidArgumentError('nwjBound: one pair has no scores off the diagonal; give at least two');
  return withoutAutocast(scores, () => {
    const [wide] = widened(scores);
    const own = positionsOf(count, wide).unsqueeze(1);
    const apart = wide.scatter(1, own, -Infinity).logsumexp([0, 1]);
    return wide
      .diagonal()
      .mean()
      .sub(apart.sub(1 + Math.log(count) + Math.log(count - 1)).exp());
  });
}

function checkScores(scores: Tensor, what: string): void {
  if (scores.ndim !== 2 || scores.sizeOf(0) !== scores.sizeOf(1) || scores.numel() === 0) {
    throw new InvalidArgumentError(`${what}: scores: expected shape [K, K], found [${scores.shape.join(', ')}]`);
  }
}

/** Where critics' parameters live and come from. */
export interface CriticPlacement {
  device?: Device;
  dtype?: DType;
  /** Default: the device's default generator. */
  generator?: Generator;
}

/** What a {@link BilinearCritic} is made from. */
export interface BilinearCriticOptions extends CriticPlacement {
  /** The size of x. */
  firstDimension: number;
  /** The size of y. Default: that of x. */
  secondDimension?: number;
}

/** f(x, y) = xᵀ W y, for all pairs: [N, D] and [N, E] give [N, N]. */
export class BilinearCritic extends Module<[Tensor, Tensor]> {
  /** [firstDimension, secondDimension]. Starts uniform by Xavier's rule. */
  readonly weight: Parameter;

  constructor(options: BilinearCriticOptions) {
    super();
    const { firstDimension, secondDimension = firstDimension, device, dtype, generator } = options;
    this.weight = new Parameter(torch.empty([firstDimension, secondDimension], { device, dtype }));
    init.xavierUniform_(this.weight, { generator });
  }

  override forward(first: Tensor, second: Tensor): Tensor {
    return first.matmul(this.weight).matmul(second.t());
  }
}

/** What a {@link SeparableCritic} is made from. */
export interface SeparableCriticOptions extends CriticPlacement {
  firstDimension: number;
  /** Default: that of x. */
  secondDimension?: number;
  /** The size of the hidden layer. Default 256. */
  hidden?: number;
  /** The size of the space in which dot products are taken. Default 128. */
  dimension?: number;
}

/** f(x, y) = g(x)·h(y), with two-layer networks g and h, for all pairs: [N, D] and [N, E] give [N, N]. */
export class SeparableCritic extends Module<[Tensor, Tensor]> {
  readonly first: Sequential;
  readonly second: Sequential;

  constructor(options: SeparableCriticOptions) {
    super();
    const { firstDimension, secondDimension = firstDimension, hidden = 256, dimension = 128, ...placement } = options;
    this.first = twoLayers(firstDimension, hidden, dimension, placement);
    this.second = twoLayers(secondDimension, hidden, dimension, placement);
  }

  override forward(first: Tensor, second: Tensor): Tensor {
    return this.first.forward(first).matmul(this.second.forward(second).t());
  }
}

/** What a {@link ConcatenatedCritic} is made from. */
export interface ConcatenatedCriticOptions extends CriticPlacement {
  firstDimension: number;
  /** Default: that of x. */
  secondDimension?: number;
  /** The size of the hidden layer. Default 256. */
  hidden?: number;
}

/**
 * f(x, y) = g([x, y]), with a two-layer network g on both side by side, for all pairs: [N, D] and [N, E] give [N, N]. It takes N² passes through
 * the network.
 */
export class ConcatenatedCritic extends Module<[Tensor, Tensor]> {
  readonly network: Sequential;

  constructor(options: ConcatenatedCriticOptions) {
    super();
    const { firstDimension, secondDimension = firstDimension, hidden = 256, ...placement } = options;
    this.network = twoLayers(firstDimension + secondDimension, hidden, 1, placement);
  }

  override forward(first: Tensor, second: Tensor): Tensor {
    const [rows, columns] = [first.sizeOf(0), second.sizeOf(0)];
    const left = first.unsqueeze(1).expand([rows, columns, first.sizeOf(1)]);
    const right = second.unsqueeze(0).expand([rows, columns, second.sizeOf(1)]);
    return this.network.forward(torch.cat([left, right], 2)).squeeze(2);
  }
}

function twoLayers(inFeatures: number, hidden: number, outFeatures: number, placement: CriticPlacement): Sequential {
  return new Sequential(
    new Linear({ inFeatures, outFeatures: hidden, ...placement }),
    new ReLU(),
    new Linear({ inFeatures: hidden, outFeatures, ...placement }),
  );
}

/**
 * The bound of a batch's mutual information as a loss: its negative.
 *
 * @param first [N, D]
 * @param second [N, E]: row i belongs to row i
 * @param critic gives all pairs' scores, [N, N]
 * @param bound default {@link infoNceBound}
 * @throws InvalidArgumentError if shapes do not fit
 */
export function mutualInformationLoss(
  first: Tensor,
  second: Tensor,
  critic: Module<[Tensor, Tensor]>,
  bound: (scores: Tensor) => Tensor = infoNceBound,
): Tensor {
  checkEmbeddings(first, 'mutualInformationLoss: first');
  checkEmbeddings(second, 'mutualInformationLoss: second', undefined, first.sizeOf(0));
  return bound(critic.forward(first, second)).neg();
}
