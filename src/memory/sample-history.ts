import { InvalidArgumentError, keep, noGrad, scope, torch, type Device, type DType, type Tensor } from '../torch';
import type { JsonObject } from '../torch/state';
import { positiveInteger } from '../nn/checks';
import { checkColumn, checkPositions } from './checks';
import { TensorStore } from './tensor-store';

/** What a {@link SampleHistory} is made from. */
export interface SampleHistoryOptions {
  /** How many samples the data set has. */
  samples: number;
  /** The shape of one value. Default `[]`, a single number such as a loss. */
  shape?: readonly number[];
  /** How many of the last values of each sample are kept. Default 1. */
  length?: number;
  /** Default `'float32'`. */
  dtype?: DType;
  /** Default `'cpu'`. */
  device?: Device;
}

/**
 * The last values of every sample of a data set: losses, predictions, whatever training looks back at. A batch's values are recorded by
 * the samples' numbers, at any time and in any order; each sample has a ring of its own.
 *
 * Takes samples · length · (elements of a value) in memory. Nothing here has a gradient.
 */
export class SampleHistory extends TensorStore {
  readonly samples: number;
  readonly shape: readonly number[];
  readonly length: number;
  /** [samples · length, …] */
  readonly #values: Tensor;
  readonly #counts: Tensor;

  constructor(options: SampleHistoryOptions) {
    super();
    const { shape = [], length = 1, dtype = 'float32', device = 'cpu' } = options;
    this.samples = positiveInteger(options.samples, 'SampleHistory: samples');
    this.length = positiveInteger(length, 'SampleHistory: length');
    shape.forEach((size) => positiveInteger(size, 'SampleHistory: shape'));
    this.shape = [...shape];
    [this.#values, this.#counts] = scope(() => [
      keep(torch.zeros([this.samples * this.length, ...shape], { dtype, device })),
      keep(torch.zeros([this.samples], { dtype: 'int64', device })),
    ]);
  }

  /** The type of values. */
  get dtype(): DType {
    return this.#values.dtype;
  }

  /** How many values each sample has had, int64 [samples]: a view. */
  counts(): Tensor {
    return this.#counts.detach();
  }

  /**
   * Adds one value for each of some samples.
   *
   * @param ids int64 [N], distinct, from 0 to samples − 1
   * @param values [N, …], of the history's dtype; copied without gradients
   * @throws InvalidArgumentError if something does not fit, before anything changes
   */
  record(ids: Tensor, values: Tensor): void {
    const what = 'SampleHistory';
    const count = ids.ndim === 1 ? ids.sizeOf(0) : 0;
    checkColumn(values, [count, ...this.shape], this.#values.dtype, this.device, what, 'values');
    checkPositions(ids, this.samples, this.device, what, { count, distinct: true });
    noGrad(() =>
      scope(() => {
        const before = this.#counts.indexSelect(0, ids);
        this.#values.indexCopy_(0, ids.mul(this.length).add(before.remainder(this.length)), values.detach());
        this.#counts.indexCopy_(0, ids, before.add(1));
      }),
    );
  }

  /**
   * The last value of each of some samples, [N, …].
   *
   * @param fallback [N, …]: what those get that had none. Default: zeros
   */
  last(ids: Tensor, fallback?: Tensor): Tensor {
    this.#check(ids);
    const count = ids.sizeOf(0);
    if (fallback !== undefined) {
      checkColumn(fallback, [count, ...this.shape], this.#values.dtype, this.device, 'SampleHistory', 'the fallback');
    }
    return noGrad(() =>
      scope(() => {
        const counts = this.#counts.indexSelect(0, ids);
        const newest = ids.mul(this.length).add(counts.add(this.length - 1).remainder(this.length));
        const values = this.#values.indexSelect(0, newest);
        const has = counts.gt(0).view([count, ...this.shape.map(() => 1)]);
        return torch.where(has, values, fallback?.detach() ?? values.newZeros([]));
      }),
    );
  }

  /**
   * The kept values of some samples, the oldest first.
   *
   * @returns values [N, length, …], zeros behind the last where there are fewer, and which are there, bool [N, length]
   */
  history(ids: Tensor): { values: Tensor; there: Tensor } {
    this.#check(ids);
    return noGrad(() =>
      scope(() => {
        const counts = this.#counts.indexSelect(0, ids).unsqueeze(1);
        const steps = torch.arange(this.length, { device: this.device }).unsqueeze(0);
        const there = steps.lt(counts);
        // A full ring's oldest lies where the next goes.
        const from = torch.where(counts.ge(this.length), counts.remainder(this.length), counts.newZeros([]));
        const rows = ids.mul(this.length).unsqueeze(1).add(steps.add(from).remainder(this.length));
        const values = this.#values.indexSelect(0, rows.flatten()).view([...rows.shape, ...this.shape]);
        const mask = there.view([...rows.shape, ...this.shape.map(() => 1)]);
        return { values: torch.where(mask, values, values.newZeros([])), there };
      }),
    );
  }

  /** Forgets everything. */
  clear(): void {
    noGrad(() => {
      this.#values.zero_().dispose();
      this.#counts.zero_().dispose();
    });
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { values: this.#values, counts: this.#counts };
  }

  protected override get settings(): JsonObject {
    return { length: this.length };
  }

  #check(ids: Tensor): void {
    if (ids.ndim !== 1) throw new InvalidArgumentError('SampleHistory: ids must be of shape [N]');
    checkPositions(ids, this.samples, this.device, 'SampleHistory');
  }
}
