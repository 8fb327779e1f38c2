import { InvalidArgumentError } from '../torch';
import { jsonNumber, jsonObject, type StateDict, type Stateful } from '../torch/state';
import { integerFrom, numberWithin, positiveInteger } from '../nn/checks';

/** The shape of the schedule. */
export interface WarmupCosineShape {
  /** How many steps the learning rate rises. Default 0. */
  stepsWarmup?: number;
  /** How many steps training takes, warm-up included. */
  stepsTotal: number;
  /** The factor in step 0. Default 1 / (stepsWarmup + 1): equal rises from nothing, without a step that does nothing. */
  startFactor?: number;
  /** The factor from step `stepsTotal` on. Default 0. */
  endFactor?: number;
}

/**
 * The factor on the learning rate in a step (counted from 0): a straight line from `startFactor` to 1 over the first W steps,
 * then half a cosine to `endFactor` at step T (Loshchilov and Hutter 2017, "SGDR"):
 *
 *     start + (1 − start) · s / W                                 for s < W
 *     end + (1 − end) · (1 + cos(π (s − W) / (T − W))) / 2        for W ≤ s < T
 *     end                                                         for s ≥ T
 */
export function warmupCosine(step: number, shape: WarmupCosineShape): number {
  const { stepsWarmup = 0, stepsTotal, startFactor = 1 / (stepsWarmup + 1), endFactor = 0 } = shape;
  if (step < stepsWarmup) return startFactor + ((1 - startFactor) * step) / stepsWarmup;
  if (step >= stepsTotal) return endFactor;
  const progress = (step - stepsWarmup) / (stepsTotal - stepsWarmup);
  return endFactor + ((1 - endFactor) * (1 + Math.cos(Math.PI * progress))) / 2;
}

/** Anything with groups that have a learning rate. */
export interface HasLearningRates {
  readonly groups: readonly { lr: number }[];
}

/**
 * Sets the learning rates of an optimiser's groups to {@link warmupCosine} times what they were when the schedule was made.
 * Making it sets the rates of step 0; call {@link WarmupCosine.step} after each of the optimiser's steps.
 */
export class WarmupCosine implements Stateful {
  readonly shape: Readonly<WarmupCosineShape>;
  readonly #optimizer: HasLearningRates;
  readonly #peaks: number[];
  #steps = 0;

  /**
   * @param options the shape and the `optimizer` whose learning rates are set; their present values are the peaks
   * @throws InvalidArgumentError if the warm-up is longer than the training, or a factor makes no sense
   */
  constructor(options: WarmupCosineShape & { optimizer: HasLearningRates }) {
    const { optimizer, ...shape } = options;
    const { stepsWarmup = 0, stepsTotal, startFactor = 0, endFactor = 0 } = shape;
    positiveInteger(stepsTotal, 'WarmupCosine: stepsTotal');
    integerFrom(0, stepsWarmup, 'WarmupCosine: stepsWarmup');
    numberWithin(0, 1, startFactor, 'WarmupCosine: startFactor');
    numberWithin(0, 1, endFactor, 'WarmupCosine: endFactor');
    if (stepsWarmup > stepsTotal) {
      throw new InvalidArgumentError(
        `WarmupCosine: stepsWarmup (${stepsWarmup}) must not be more than stepsTotal (${stepsTotal})`,
      );
    }
    this.shape = shape;
    this.#optimizer = optimizer;
    this.#peaks = optimizer.groups.map((group) => group.lr);
    this.#apply();
  }

  /** How many steps have been taken. */
  get steps(): number {
    return this.#steps;
  }

  /** The present factor on the learning rates. */
  get factor(): number {
    return warmupCosine(this.#steps, this.shape);
  }

  /** Goes on to the next step and sets its learning rates. */
  step(): void {
    this.#steps++;
    this.#apply();
  }

  stateDict(): StateDict {
    return { tensors: new Map(), values: { steps: this.#steps, peaks: [...this.#peaks] } };
  }

  /** Takes over the position and the peaks, and sets the learning rates. The shape is this schedule's own. */
  loadStateDict(state: StateDict): void {
    const what = 'WarmupCosine: the values of the state dict';
    const values = jsonObject(state.values, what);
    const steps = integerFrom(0, jsonNumber(values, 'steps', what), `${what}: steps`);
    const peaks = values.peaks;
    if (!Array.isArray(peaks) || peaks.length !== this.#peaks.length) {
      throw new InvalidArgumentError(`${what}: expected ${this.#peaks.length} peaks, found ${JSON.stringify(peaks)}`);
    }
    const numbers = peaks.map((peak, index) => numberWithin(0, Infinity, Number(peak), `${what}: peaks[${index}]`));
    this.#steps = steps;
    this.#peaks.splice(0, this.#peaks.length, ...numbers);
    this.#apply();
  }

  #apply(): void {
    this.#optimizer.groups.forEach((group, index) => {
      group.lr = this.#peaks[index]! * this.factor;
    });
  }
}
