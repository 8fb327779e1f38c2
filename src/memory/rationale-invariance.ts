import { InvalidArgumentError, scope, torch, type Device, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import type { StateDict, Stateful } from '../torch/state';
import { positiveInteger } from '../nn/checks';
import { checkColumn, checkPositions, checkRows } from './checks';
import { ClassPrototypes } from './class-prototypes';
import { wide } from './nearest';
import type { GatherRows } from './ring-buffer';

/** What {@link RationaleInvariance} is made from. */
export interface RationaleInvarianceOptions {
  /** C: how many classes there are. */
  classes: number;
  /** The size D of the features that the classifier sees. */
  dimension: number;
  /** m: how much of the old average a step keeps. Default 0.999; code of others has one minus this, 0.001. */
  momentum?: number;
  /** Default `'float32'`. */
  dtype?: 'float32' | 'float64';
  /** Default `'cpu'`. */
  device?: Device;
  /** Makes every rank's averages the same. Default: this rank's samples alone. */
  gather?: GatherRows;
}

/**
 * Rationale invariance, RIDG (Chen, Zhang, Song, van den Hengel and Liu 2023, "Domain Generalization via Rationale Invariance"): what each feature adds
 * to each logit, a sample's rationale, shall be alike for all samples of a class, whatever their domain.
 *
 *     Rᵢ = W ⊙ zᵢ                                        [C, D]: row c is w_c ⊙ zᵢ, whose sum is logit c
 *     R̄_y ← m · R̄_y + (1 − m) · mean of the batch's Rᵢ of class y,      the first time the mean itself
 *     loss = Σ_{classes y of the batch} mean_{i of y} (1/C) ‖Rᵢ − R̄_y‖²
 *
 * Checked against code of others: one copy read whole, of three more the parts that were to be had, which agree with it. The authors' own and the
 * paper were not to be had. In that code R̄ moves before the loss is taken, as here, and the loss is added to the cross-entropy with the weight 0.01.
 * Averages have no gradient; features and weight have. Takes memory N·C·D for the loss and C²·D for the averages.
 *
 * For classifiers that shall hold on domains that they were not trained on.
 */
export class RationaleInvariance implements Stateful {
  readonly classes: number;
  readonly dimension: number;
  readonly #averages: ClassPrototypes;

  constructor(options: RationaleInvarianceOptions) {
    const { classes, dimension, momentum = 0.999, ...rest } = options;
    this.classes = positiveInteger(classes, 'RationaleInvariance: classes');
    this.dimension = positiveInteger(dimension, 'RationaleInvariance: dimension');
    this.#averages = new ClassPrototypes({ classes, shape: [classes, dimension], momentum, step: 'mean', ...rest });
  }

  /** The averages R̄, [C, C, D], and their counts. */
  get averages(): ClassPrototypes {
    return this.#averages;
  }

  /**
   * Moves the averages by a batch, and gives its loss.
   *
   * @param features [N, D] of any floating-point dtype
   * @param weight [C, D]: the classifier's
   * @param labels int64 [N]
   * @returns the loss without dimensions
   * @throws InvalidArgumentError if shapes, dtypes, devices or labels do not fit, before anything changes
   */
  loss(features: Tensor, weight: Tensor, labels: Tensor): Tensor {
    const what = 'RationaleInvariance';
    const { classes, dimension } = this;
    const { device } = this.#averages;
    checkRows(features, dimension, device, what, 'features');
    const count = features.sizeOf(0);
    if (count === 0) throw new InvalidArgumentError(`${what}: there are no features`);
    checkColumn(weight, [classes, dimension], weight.dtype, device, what, 'weight');
    if (!weight.isFloatingPoint()) {
      throw new InvalidArgumentError(`${what}: the weight needs a floating-point dtype, found ${weight.dtype}`);
    }
    checkPositions(labels, classes, device, what, { count, noun: 'labels' });
    return withoutAutocast(features, () =>
      scope(() => {
        const [z, w] = [wide(features), wide(weight)];
        const rationales = w.unsqueeze(0).mul(z.unsqueeze(1));
        this.#averages.update(rationales, labels);
        const losses = rationales.sub(this.#averages.of(labels)).square().sum([2]).mean([1]);
        const counts = labels.unsqueeze(1).eq(labels.unsqueeze(0)).sum([1]);
        return torch.div(losses, counts).sum();
      }),
    );
  }

  /** Moves the averages. */
  to(options: { device?: Device }): this {
    this.#averages.to(options);
    return this;
  }

  stateDict(): StateDict {
    return this.#averages.stateDict();
  }

  /** @throws InvalidArgumentError what {@link RationaleInvariance.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    this.#averages.checkStateDict(state);
  }

  loadStateDict(state: StateDict): void {
    this.#averages.loadStateDict(state);
  }

  /** Frees the averages now; they are of no use afterwards. */
  dispose(): void {
    this.#averages.dispose();
  }
}
