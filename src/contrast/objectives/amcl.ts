/** AMCL: several projection heads, and a temperature for each pair. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional, Linear, Module, ReLU, Sequential } from '../../nn';
import { checkDevice, checkNumber } from './parts';

/** What an {@link Amcl} is made from. */
export interface AmclOptions {
  /** d, the size of a head's embeddings. */
  dimension: number;
  /** The least temperature. Default 1e-5. */
  least?: number;
  /** The greatest temperature. Default 2. */
  greatest?: number;
  /** The size of φ's hidden layer. Default: d. */
  hidden?: number;
  /** How many negatives count, the most alike. Default 100, or all if there are fewer. */
  negatives?: number;
  /** β, the weight of the temperatures' regulariser. Default 0.01. */
  regularization?: number;
  device?: Device;
  dtype?: DType;
  /** Default: the device's default generator. */
  generator?: Generator;
}

/**
 * AMCL (Wang et al. 2024, "Adaptive Multi-head Contrastive Learning"): each pair of embeddings has a temperature of its own, which a small network
 * tells from both, and several heads see different likenesses. With s the cosine, and the sum over heads,
 *
 *     Lᵢ = −s⁺/τ⁺ + meanₖ(sₖ⁻/τₖ⁻) + β·( d/2·log τ⁺ + 1/τ⁺ ) − β·Σₖ( log τₖ⁻ + 1/τₖ⁻ )
 *     τ(x, y) = least + (greatest − least) · σ(−φ(x)·φ(y))
 *
 * k goes over the negatives most alike to the anchor. One network φ of two layers serves all heads. This is the form of the authors'
 * code for SimCLR and MoCo. The loss is not bounded below by 0. It is dense: two matrices a head.
 */
export class Amcl extends Module<[Tensor, Tensor, (Tensor | null)?]> {
  readonly least: number;
  readonly greatest: number;
  readonly negatives: number;
  readonly regularization: number;
  readonly dimension: number;
  /** φ. */
  readonly network: Sequential;

  constructor(options: AmclOptions) {
    super();
    const {
      dimension,
      least = 1e-5,
      greatest = 2,
      hidden = dimension,
      negatives = 100,
      regularization = 0.01,
    } = options;
    const { device, dtype, generator } = options;
    checkNumber(least, 'Amcl: least', { above: true });
    checkNumber(greatest, 'Amcl: greatest', { low: least, above: true });
    checkNumber(regularization, 'Amcl: regularization');
    if (!Number.isSafeInteger(negatives) || negatives < 1) {
      throw new InvalidArgumentError(`Amcl: negatives must be an integer of at least 1, found ${String(negatives)}`);
    }
    this.least = least;
    this.greatest = greatest;
    this.negatives = negatives;
    this.regularization = regularization;
    this.dimension = dimension;
    this.network = new Sequential(
      new Linear({ inFeatures: dimension, outFeatures: hidden, device, dtype, generator }),
      new ReLU(),
      new Linear({ inFeatures: hidden, outFeatures: dimension, device, dtype, generator }),
    );
  }

  /** The temperatures of scores φ(x)·φ(y), of any shape. */
  temperatures(scores: Tensor): Tensor {
    return scores
      .neg()
      .sigmoid()
      .mul(this.greatest - this.least)
      .add(this.least);
  }

  /**
   * @param first [N, H, D]: H heads' embeddings of one view
   * @param second [N, H, D]: those of the other view
   * @param queue [H, K, D]: each head's negatives, as for MoCo. Default: all other views of the batch, as for SimCLR
   * @returns the loss, without dimensions: the mean over samples and both directions, the sum over heads
   * @throws InvalidArgumentError if shapes do not fit, or there are no negatives
   */
  override forward(first: Tensor, second: Tensor, queue: Tensor | null = null): Tensor {
    this.#check(first, second, queue);
    return withoutAutocast(first, () => {
      const { dtype } = this.network.parameters()[0]!;
      const prepare = (x: Tensor): Tensor => functional.normalize(x.to({ dtype }));
      const views = prepare(torch.cat([first, second]));
      const bank = queue === null ? null : prepare(queue);
      const heads = Array.from({ length: first.sizeOf(1) }, (_, h) =>
        this.#headLoss(views.select(1, h), bank === null ? null : bank.select(0, h)),
      );
      return torch.stack(heads).sum();
    });
  }

  /** One head: both views of each sample, [2N, D]. */
  #headLoss(views: Tensor, bank: Tensor | null): Tensor {
    const count = views.sizeOf(0) / 2;
    const inner = this.network.forward(views);
    const partners = views.roll([count], [0]);
    const own = views.mul(partners).sum([1]);
    const ownTemperature = this.temperatures(inner.mul(inner.roll([count], [0])).sum([1]));
    const candidates = bank ?? views;
    const scores = views.matmul(candidates.t());
    const likeness = inner.matmul((bank === null ? inner : this.network.forward(bank)).t());
    let among = scores;
    if (bank === null) {
      // Neither the anchor itself nor its other view is a negative.
      const identity = torch.eye(count, { dtype: 'bool', device: views.device });
      among = scores.maskedFill(identity.repeat([2, 2]), -Infinity);
    }
    const available = bank === null ? 2 * count - 2 : bank.sizeOf(0);
    const [hardest, positions] = among.topk(Math.min(this.negatives, available), 1);
    const temperatures = this.temperatures(likeness.gather(1, positions));
    const attract = hardest.div(temperatures).mean([1]).sub(own.div(ownTemperature));
    const positive = ownTemperature
      .log()
      .mul(this.dimension / 2)
      .add(ownTemperature.reciprocal());
    const negative = temperatures.log().add(temperatures.reciprocal()).sum([1]);
    return attract.add(positive.sub(negative).mul(this.regularization)).mean();
  }

  #check(first: Tensor, second: Tensor, queue: Tensor | null): void {
    const fits = first.ndim === 3 && first.sizeOf(2) === this.dimension && first.numel() > 0;
    if (!fits || first.shape.join() !== second.shape.join()) {
      throw new InvalidArgumentError(
        `Amcl: first and second must both be [N, H, ${this.dimension}], found [${first.shape.join(', ')}] and [${second.shape.join(', ')}]`,
      );
    }
    checkDevice(second, first, 'Amcl: second');
    if (queue === null) {
      if (first.sizeOf(0) < 2) throw new InvalidArgumentError('Amcl: a batch of one sample holds no negatives');
      return;
    }
    if (
      queue.ndim !== 3 ||
      queue.sizeOf(0) !== first.sizeOf(1) ||
      queue.sizeOf(2) !== this.dimension ||
      queue.numel() === 0
    ) {
      throw new InvalidArgumentError(
        `Amcl: queue: expected shape [${first.sizeOf(1)}, K, ${this.dimension}], found [${queue.shape.join(', ')}]`,
      );
    }
    checkDevice(queue, first, 'Amcl: queue');
  }
}
