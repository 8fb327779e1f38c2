import { InvalidArgumentError, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import type { StateDict, Stateful } from '../torch/state';
import { integerFrom, numberWithin, positiveInteger } from '../nn/checks';
import { checkPositions } from './checks';
import { wide } from './nearest';
import { SampleHistory } from './sample-history';

/** What {@link ProgressiveTargets} are made from. */
export interface ProgressiveTargetsOptions {
  /** How many samples the data set has. */
  samples: number;
  /** C: how many classes there are. */
  classes: number;
  /** T: how many epochs the training has. */
  epochs: number;
  /** α_T: how much the past prediction counts in the last epoch. Default 0.8, as in the authors' code. */
  alpha?: number;
  /** Default `'float32'`. */
  dtype?: 'float32' | 'float64';
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * Progressive self-knowledge distillation, PS-KD (Kim, Ji, Yoon and Hwang 2021, "Self-Knowledge Distillation with Progressive Refinement of Targets"): the
 * model's own last prediction of a sample softens its label, more and more over training.
 *
 *     targetᵢ = (1 − α_t) · onehot(yᵢ) + α_t · pᵢ,   α_t = α_T · (t + 1) / T   in epoch t = 0, 1, …
 *
 * pᵢ is the sample's last recorded softmax, and its label before there is one. Checked against the authors' code. Takes samples · C numbers.
 * Targets have no gradient.
 *
 * ```ts
 * const targets = memory.targets(ids, labels, epoch);
 * const loss = softTargetCrossEntropy(logits, targets);
 * memory.record(ids, logits);
 * ```
 *
 * For classifiers, and for contrastive objectives that take soft labels.
 */
export class ProgressiveTargets implements Stateful {
  readonly classes: number;
  readonly epochs: number;
  readonly alpha: number;
  readonly #history: SampleHistory;

  constructor(options: ProgressiveTargetsOptions) {
    const { samples, alpha = 0.8, dtype, device } = options;
    this.classes = positiveInteger(options.classes, 'ProgressiveTargets: classes');
    this.epochs = positiveInteger(options.epochs, 'ProgressiveTargets: epochs');
    this.alpha = numberWithin(0, 1, alpha, 'ProgressiveTargets: alpha');
    this.#history = new SampleHistory({ samples, shape: [this.classes], dtype, device });
  }

  /** α_t. @param epoch from 0; from the last on it stays α_T */
  alphaAt(epoch: number): number {
    integerFrom(0, epoch, 'ProgressiveTargets: epoch');
    return (this.alpha * Math.min(epoch + 1, this.epochs)) / this.epochs;
  }

  /**
   * The soft labels of some samples, [N, C].
   *
   * @param ids int64 [N]
   * @param labels int64 [N], from 0 to C − 1
   * @param epoch from 0
   * @throws InvalidArgumentError if something does not fit
   */
  targets(ids: Tensor, labels: Tensor, epoch: number): Tensor {
    const alpha = this.alphaAt(epoch);
    const count = ids.ndim === 1 ? ids.sizeOf(0) : 0;
    checkPositions(labels, this.classes, this.#history.device, 'ProgressiveTargets', { count, noun: 'labels' });
    return noGrad(() =>
      scope(() => {
        const { dtype } = this.#history;
        const hard = labels
          .unsqueeze(1)
          .eq(torch.arange(this.classes, { device: labels.device }))
          .to({ dtype });
        return hard.mul(1 - alpha).add(this.#history.last(ids, hard).mul(alpha));
      }),
    );
  }

  /**
   * Records what the model now says of some samples.
   *
   * @param ids int64 [N], distinct
   * @param logits [N, C]: their softmax is kept
   */
  record(ids: Tensor, logits: Tensor): void {
    if (!logits.isFloatingPoint() || logits.ndim !== 2) {
      throw new InvalidArgumentError('ProgressiveTargets: logits must be floating-point [N, C]');
    }
    withoutAutocast(logits, () =>
      noGrad(() =>
        scope(() => {
          const { dtype } = this.#history;
          this.#history.record(ids, wide(logits.detach()).softmax(1).to({ dtype }));
        }),
      ),
    );
  }

  /** Moves the predictions. */
  to(options: { device?: Device }): this {
    this.#history.to(options);
    return this;
  }

  stateDict(): StateDict {
    return this.#history.stateDict();
  }

  /** @throws InvalidArgumentError what {@link ProgressiveTargets.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    this.#history.checkStateDict(state);
  }

  loadStateDict(state: StateDict): void {
    this.#history.loadStateDict(state);
  }

  /** Frees the predictions now; the memory is of no use afterwards. */
  dispose(): void {
    this.#history.dispose();
  }
}

/**
 * Cross-entropy with soft labels: lossᵢ = −Σ_c target_{ic} · log softmax(logitsᵢ)_c.
 *
 * @param logits [N, C] of any floating-point dtype
 * @param targets [N, C]; they get no gradient
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 */
export function softTargetCrossEntropy(
  logits: Tensor,
  targets: Tensor,
  { reduction = 'mean' }: { reduction?: 'mean' | 'sum' | 'none' } = {},
): Tensor {
  if (logits.ndim !== 2 || targets.shape.join() !== logits.shape.join()) {
    throw new InvalidArgumentError(
      `softTargetCrossEntropy: logits and targets must both be [N, C], found [${logits.shape.join(', ')}] and [${targets.shape.join(', ')}]`,
    );
  }
  return withoutAutocast(logits, () =>
    scope(() => {
      const losses = wide(logits).logSoftmax(1).mul(targets.detach()).sum([1]).neg();
      if (reduction === 'none') return losses;
      return reduction === 'sum' ? losses.sum() : losses.mean();
    }),
  );
}
