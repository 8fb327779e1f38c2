import { InvalidArgumentError, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { functional } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkColumn, checkPlace, checkPositions, shown } from './checks';
import type { GatherRows, MemoryCandidates } from './ring-buffer';
import { TensorStore } from './tensor-store';

/** What {@link ClassPrototypes} are made from. */
export interface ClassPrototypesOptions {
  /** C: how many classes there are. */
  classes: number;
  /** The size D of a prototype, or its shape. */
  shape: number | readonly number[];
  /** m: how much of the old prototype a step keeps. Default 0.9. */
  momentum?: number;
  /**
   * What a step is: `'sample'` (default): each sample of the batch, one after the other, as in PiCO and INS; `'mean'`: the batch's mean of
   * the class, as in RIDG.
   */
  step?: 'sample' | 'mean';
  /** Where a class starts: at what comes `'first'` (default), or at `'zero'`, from where it is averaged, as in PiCO and INS. */
  start?: 'first' | 'zero';
  /** Whether prototypes are brought to length one after each update. Default false. */
  normalize?: boolean;
  /** Default `'float32'`. */
  dtype?: 'float32' | 'float64';
  /** Default `'cpu'`. */
  device?: Device;
  /** Makes every rank's prototypes the same. Default: this rank's samples alone. */
  gather?: GatherRows;
}

/**
 * A moving average of each class.
 *
 *     μ_c ← m · μ_c + (1 − m) · x,   for each sample x of class c, or for the mean of the batch's
 *
 * The prototypes of INS (Qu, Ma, Luo, Guo, Wang and Song 2023, "Rethinking Multiple Instance Learning for Whole Slide Image Classification: A Good Instance
 * Classifier is All You Need") are `{ momentum: 0.9, step: 'sample', start: 'zero', normalize: true }` with pseudo labels in place of
 * labels; those of {@link RationaleInvariance} are `{ step: 'mean' }`. Steps of single samples are computed at once, in closed form: the last sample of
 * a class in the batch weighs most. Classes that do not occur stay as they are. Nothing here has a gradient.
 *
 * For anchors of classes that are steadier than a batch: prototypes as candidates, pseudo labels, centres to pull to.
 */
export class ClassPrototypes extends TensorStore {
  readonly classes: number;
  readonly shape: readonly number[];
  readonly momentum: number;
  readonly #options: { step: 'sample' | 'mean'; start: 'first' | 'zero'; normalize: boolean };
  readonly #gather: GatherRows | undefined;
  readonly #prototypes: Tensor;
  readonly #counts: Tensor;

  constructor(options: ClassPrototypesOptions) {
    super();
    const what = 'ClassPrototypes';
    const { momentum = 0.9, step = 'sample', start = 'first', normalize = false } = options;
    const { dtype = 'float32', device = 'cpu', gather } = options;
    this.classes = positiveInteger(options.classes, `${what}: classes`);
    this.shape = typeof options.shape === 'number' ? [options.shape] : [...options.shape];
    this.shape.forEach((length) => positiveInteger(length, `${what}: shape`));
    this.momentum = numberWithin(0, 1, momentum, `${what}: momentum`);
    this.#options = { step, start, normalize };
    this.#gather = gather;
    [this.#prototypes, this.#counts] = scope(() => [
      keep(torch.zeros([this.classes, ...this.shape], { dtype, device })),
      keep(torch.zeros([this.classes], { dtype: 'int64', device })),
    ]);
  }

  /** All prototypes, [C, …]: a view, which updates change. Zeros for classes that never occurred. */
  entries(): Tensor {
    return this.#prototypes.detach();
  }

  /** How many samples each class has seen, int64 [C]: a view. */
  counts(): Tensor {
    return this.#counts.detach();
  }

  /** The prototypes of some classes, [N, …], a copy. @param labels int64 [N] */
  of(labels: Tensor): Tensor {
    checkPositions(labels, this.classes, this.device, 'ClassPrototypes', { noun: 'labels' });
    return noGrad(() => this.#prototypes.indexSelect(0, labels));
  }

  /**
   * Moves the prototypes by a batch, of all ranks if there is a `gather` function.
   *
   * @param values [N, …] of any floating-point dtype
   * @param labels int64 [N], from 0 to C − 1
   * @param options `mask`: bool [N], which samples count; default all
   * @throws InvalidArgumentError if shapes, dtypes, devices or labels do not fit, before anything changes
   */
  update(values: Tensor, labels: Tensor, { mask }: { mask?: Tensor } = {}): void {
    const what = 'ClassPrototypes';
    if (values.ndim === 0 || values.shape.slice(1).join() !== this.shape.join()) {
      throw new InvalidArgumentError(
        `${what}: expected values of shape [N, ${this.shape.join(', ')}], found ${shown(values.shape)}`,
      );
    }
    if (!values.isFloatingPoint()) {
      throw new InvalidArgumentError(`${what}: values need a floating-point dtype, found ${values.dtype}`);
    }
    checkPlace(values, this.device, what, 'values');
    const count = values.sizeOf(0);
    checkPositions(labels, this.classes, this.device, what, { count, noun: 'labels' });
    if (mask !== undefined) checkColumn(mask, [count], 'bool', this.device, what, 'the mask');
    withoutAutocast(values, () =>
      noGrad(() =>
        scope(() => {
          const counts = mask ?? torch.ones([count], { dtype: 'bool', device: this.device });
          const own = [values.detach(), labels, counts];
          const [x, y, included] = (this.#gather?.(own) ?? own) as [Tensor, Tensor, Tensor];
          this.#move(x, y, included);
        }),
      ),
    );
  }

  /**
   * The class whose prototype is most alike each embedding, among those that are allowed: pseudo labels.
   *
   * @param embeddings [N, D]; only for prototypes that are vectors
   * @param options `allowed`: bool [N, C], such as the labels that a bag leaves open; each row must allow one. Default: all classes
   * @returns labels int64 [N], and their dot products [N]
   */
  nearest(embeddings: Tensor, { allowed }: { allowed?: Tensor } = {}): { labels: Tensor; similarities: Tensor } {
    const what = 'ClassPrototypes';
    if (this.shape.length !== 1 || embeddings.ndim !== 2 || embeddings.sizeOf(1) !== this.shape[0]) {
      throw new InvalidArgumentError(
        `${what}: expected embeddings of shape [N, D] and prototypes of shape [D], found ${shown(embeddings.shape)} and ${shown(this.shape)}`,
      );
    }
    checkPlace(embeddings, this.device, what, 'embeddings');
    if (allowed !== undefined) {
      checkColumn(allowed, [embeddings.sizeOf(0), this.classes], 'bool', this.device, what, 'allowed');
    }
    return withoutAutocast(embeddings, () =>
      noGrad(() =>
        scope(() => {
          const scores = embeddings.detach().to({ dtype: this.#prototypes.dtype }).matmul(this.#prototypes.t());
          const open = allowed === undefined ? scores : scores.maskedFill(allowed.logicalNot(), -Infinity);
          const [similarities, labels] = open.max(1);
          return { labels, similarities };
        }),
      ),
    );
  }

  /** The prototypes of the classes that have occurred, with their labels, as `contrast` takes them; copies, of vectors only. */
  candidates(): MemoryCandidates {
    return noGrad(() =>
      scope(() => {
        const labels = this.#counts.nonzero().squeeze(1);
        return { embeddings: this.#prototypes.indexSelect(0, labels), labels };
      }),
    );
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { prototypes: this.#prototypes, counts: this.#counts };
  }

  #move(values: Tensor, labels: Tensor, included: Tensor): void {
    const { step, start, normalize } = this.#options;
    const { dtype } = this.#prototypes;
    const old = this.#prototypes.view([this.classes, -1]);
    const x = values.to({ dtype }).view([values.sizeOf(0), old.sizeOf(1)]);
    const of = torch.arange(this.classes, { device: this.device });
    // [C, N]: sums are matrix products, in one order on every device.
    const belongs = of.unsqueeze(1).eq(labels.unsqueeze(0)).logicalAnd(included.unsqueeze(0));
    const counts = belongs.sum([1]);
    const isNew = start === 'first' ? this.#counts.eq(0) : torch.zerosLike(counts).to('bool');
    const share = 1 - this.momentum;
    const power = (exponent: Tensor): Tensor =>
      torch.full([], this.momentum, { dtype, device: this.device }).pow(exponent.to({ dtype }));
    let weights: Tensor;
    let kept: Tensor;
    if (step === 'mean') {
      const each = torch
        .where(isNew, of.newOnes([], { dtype }), of.newFull([], share, { dtype }))
        .div(counts.clampMin(1));
      weights = belongs.to({ dtype }).mul(each.unsqueeze(1));
      kept = of.newFull([this.classes], this.momentum, { dtype });
    } else {
      const rank = belongs.to({ dtype: 'int64' }).cumsum(1);
      const after = counts.unsqueeze(1).sub(rank);
      const isFirst = rank.eq(1).logicalAnd(isNew.unsqueeze(1));
      const each = power(after).mul(torch.where(isFirst, of.newOnes([], { dtype }), of.newFull([], share, { dtype })));
      weights = torch.where(belongs, each, each.newZeros([]));
      kept = power(counts);
    }
    const before = torch.where(isNew.unsqueeze(1), old.newZeros([]), old.mul(kept.unsqueeze(1)));
    const moved = before.add(weights.matmul(x));
    const whole = normalize ? functional.normalize(moved) : moved;
    old.copy_(torch.where(counts.gt(0).unsqueeze(1), whole, old));
    this.#counts.add_(counts);
  }
}
