import { InvalidArgumentError, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkColumn, checkPositions, shown } from './checks';
import { TensorStore } from './tensor-store';

/** What {@link PseudoLabels} are made from. */
export interface PseudoLabelsOptions {
  /** How many samples the data set has. */
  samples: number;
  /** C: how many classes there are. */
  classes: number;
  /** bool [samples, C]: which classes each sample may have, at least one. Default: all. */
  allowed?: Tensor;
  /** Default `'float32'`. */
  dtype?: 'float32' | 'float64';
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * Soft labels of every sample that follow a model's decisions (PiCO: Wang, Xiao, Li, Feng, Niu, Chen and Zhao 2022, "PiCO: Contrastive Label Disambiguation for
 * Partial Label Learning"; INS for instances of bags: Qu, Ma, Luo, Guo, Wang and Song 2023, "Rethinking Multiple Instance Learning for Whole Slide Image
 * Classification: A Good Instance Classifier is All You Need").
 *
 *     qᵢ ← φ · qᵢ + (1 − φ) · onehot( argmax over the allowed classes of the scores )
 *
 * They start uniform over what is allowed. For bags: instances of negative bags allow only the negative class, and so keep it; others allow both. Scores
 * are similarities with {@link ClassPrototypes}; φ falls from 0.95 to 0.8 over training. Checked against the authors' code of INS. Nothing here has a
 * gradient.
 *
 * For weak labels: bags, partial labels.
 */
export class PseudoLabels extends TensorStore {
  readonly samples: number;
  readonly classes: number;
  readonly #targets: Tensor;
  readonly #allowed: Tensor;

  constructor(options: PseudoLabelsOptions) {
    super();
    const { allowed, dtype = 'float32', device = 'cpu' } = options;
    const what = 'PseudoLabels';
    this.samples = positiveInteger(options.samples, `${what}: samples`);
    this.classes = positiveInteger(options.classes, `${what}: classes`);
    const shape = [this.samples, this.classes];
    if (allowed !== undefined) checkColumn(allowed, shape, 'bool', allowed.device, what, 'allowed');
    [this.#allowed, this.#targets] = scope(() => {
      const open = (allowed?.clone() ?? torch.ones(shape, { dtype: 'bool' })).to({ device });
      const counts = open.sum([1], true);
      if (Number(counts.eq(0).sum().itemSync()) > 0) {
        throw new InvalidArgumentError(`${what}: every sample needs a class that is allowed`);
      }
      return [keep(open), keep(open.to({ dtype }).div(counts))] as const;
    });
  }

  /** The soft labels of some samples, [N, C], a copy. @param ids int64 [N] */
  targets(ids: Tensor): Tensor {
    checkPositions(ids, this.samples, this.device, 'PseudoLabels');
    return noGrad(() => this.#targets.indexSelect(0, ids));
  }

  /** Which classes some samples may have, bool [N, C], a copy. */
  allowed(ids: Tensor): Tensor {
    checkPositions(ids, this.samples, this.device, 'PseudoLabels');
    return noGrad(() => this.#allowed.indexSelect(0, ids));
  }

  /**
   * Moves the labels of some samples.
   *
   * @param ids int64 [N], distinct
   * @param scores [N, C]: the higher, the more likely
   * @param momentum φ. Default 0.95
   * @returns what was decided, int64 [N]
   */
  update(ids: Tensor, scores: Tensor, momentum = 0.95): Tensor {
    const what = 'PseudoLabels';
    numberWithin(0, 1, momentum, `${what}: momentum`);
    const count = ids.ndim === 1 ? ids.sizeOf(0) : 0;
    if (scores.ndim !== 2 || !scores.isFloatingPoint()) {
      throw new InvalidArgumentError(`${what}: scores must be floating-point [N, C], found ${shown(scores.shape)}`);
    }
    checkColumn(scores, [count, this.classes], scores.dtype, this.device, what, 'scores');
    checkPositions(ids, this.samples, this.device, what, { count, distinct: true });
    return noGrad(() =>
      scope(() => {
        const open = this.#allowed.indexSelect(0, ids);
        const decided = scores.detach().maskedFill(open.logicalNot(), -Infinity).argmax(1);
        const hard = decided.unsqueeze(1).eq(torch.arange(this.classes, { device: this.device }));
        const moved = this.#targets
          .indexSelect(0, ids)
          .mul(momentum)
          .add(hard.to({ dtype: this.#targets.dtype }).mul(1 - momentum));
        this.#targets.indexCopy_(0, ids, moved);
        return decided;
      }),
    );
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { targets: this.#targets, allowed: this.#allowed };
  }
}
