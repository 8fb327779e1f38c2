/** The ring buffer under queues and banks. */
import { InvalidArgumentError, keep, noGrad, scope, torch, type DType, type Device, type Tensor } from '../torch';
import type { JsonValue, StateDict, Stateful } from '../torch/state';
import { positiveInteger } from '../nn/checks';
import { checkColumn, checkRows, shown, stateCount, stateTensor, stateValues } from './checks';
import { decode, emptyStore, encode, storedDType, type StoredDType } from './stored';

/** What a further column holds for each entry. */
export interface ColumnSpec {
  dtype: DType;
  /** The shape of one entry's value. Default `[]`, a single number. */
  shape?: readonly number[];
}

/**
 * Gives what all ranks enqueue, rank after rank: gets this rank's tensors (their first size is that of its batch), and returns as many tensors, each
 * with the rows of all ranks in the order of ranks. Every rank must call it in the same order.
 */
export type GatherRows = (tensors: readonly Tensor[]) => readonly Tensor[];

/** What a {@link RingBuffer} is made from. */
export interface RingBufferOptions {
  /** How many entries it holds. */
  size: number;
  /** The size D of an embedding. */
  dimension: number;
  /** The type that embeddings are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default `'cpu'`. */
  device?: Device;
  /** Whether every entry has a label, int64. Default false. */
  labels?: boolean;
  /** Whether every entry has an id, int64. Default false. */
  ids?: boolean;
  /** Further columns by name. Default: none. */
  columns?: Readonly<Record<string, ColumnSpec>>;
  /** Makes every rank's buffer the same. Default: this rank's entries alone. */
  gather?: GatherRows;
}

/** What is enqueued beside embeddings: just what the buffer was made with. */
export interface EntryOptions {
  /** int64 [N] */
  labels?: Tensor;
  /** int64 [N] */
  ids?: Tensor;
  /** By name, [N, …] each. */
  columns?: Readonly<Record<string, Tensor>>;
  /** bool [N]: which rows enter. Default: all. */
  mask?: Tensor;
}

/** `'buffer'`: as they lie, which after a wrap-around is not by age; `'age'`: the oldest first. */
export type EntryOrder = 'buffer' | 'age';

/** Embeddings with what says which anchors they count for, as `contrast` takes them. */
export interface MemoryCandidates {
  /** [K, D] */
  embeddings: Tensor;
  /** int64 [K] */
  labels?: Tensor;
  /** int64 [K] */
  ids?: Tensor;
}

const LABELS = 'labels';
const IDS = 'ids';
const STAMPS = 'enqueues';
const COLUMN = 'column.';

/**
 * The newest embeddings of past batches with their labels, ids and whatever else belongs to them: first in, first out, in batches of any size.
 * New entries overwrite the oldest; of a batch larger than the buffer its last `size` rows stay.
 *
 * The n-th entry ever enqueued lies in row n mod size, so `pointer = total mod size`. All reads are without gradients. Nothing of the
 * state is lost in the state dict, ages included.
 *
 * For what needs more than {@link Queue} or the banks give: they are all built on it.
 */
export class RingBuffer implements Stateful {
  readonly size: number;
  readonly dimension: number;
  readonly #what: string;
  readonly #gather: GatherRows | undefined;
  readonly #columns: Readonly<Record<string, Required<ColumnSpec>>>;
  /** Everything that an entry consists of, [size, …] each, by the names of the state dict. */
  readonly #store = new Map<string, Tensor>();
  #dtype: StoredDType;
  #filled = 0;
  #total = 0;
  #enqueues = 0;

  /** @param what what messages call it; default `'RingBuffer'` */
  constructor(options: RingBufferOptions, what = 'RingBuffer') {
    const { dtype = 'float32', device = 'cpu', labels = false, ids = false, columns = {}, gather } = options;
    this.#what = what;
    this.#gather = gather;
    this.size = positiveInteger(options.size, `${what}: size`);
    this.dimension = positiveInteger(options.dimension, `${what}: dimension`);
    this.#dtype = storedDType(dtype, `${what}: keys`);
    this.#columns = Object.fromEntries(
      Object.entries(columns).map(([name, { shape = [], ...rest }]) => {
        shape.forEach((length) => positiveInteger(length, `${what}: the shape of column '${name}'`));
        return [name, { ...rest, shape: [...shape] }];
      }),
    );
    scope(() => {
      const { values, scales } = emptyStore(this.size, this.dimension, this.#dtype, device);
      this.#hold('embeddings', values);
      if (scales !== null) this.#hold('scales', scales);
      for (const [wanted, name] of [
        [labels, LABELS],
        [ids, IDS],
        [true, STAMPS],
      ] as const) {
        if (wanted) this.#hold(name, torch.zeros([this.size], { dtype: 'int64', device }));
      }
      for (const [name, { dtype, shape }] of Object.entries(this.#columns)) {
        this.#hold(COLUMN + name, torch.zeros([this.size, ...shape], { dtype, device }));
      }
    });
  }

  /** How many entries it holds now. */
  get filled(): number {
    return this.#filled;
  }

  /** The row that the next entry goes to. */
  get pointer(): number {
    return this.#total % this.size;
  }

  /** How many entries were ever enqueued, since it was made or cleared. */
  get total(): number {
    return this.#total;
  }

  /** How many times {@link RingBuffer.enqueue} was called, since it was made or cleared. */
  get enqueues(): number {
    return this.#enqueues;
  }

  /** The type that embeddings are held in. */
  get dtype(): StoredDType {
    return this.#dtype;
  }

  /** Where the entries are. */
  get device(): Device {
    return this.#of('embeddings').device;
  }

  /** Whether entries have labels. */
  get hasLabels(): boolean {
    return this.#store.has(LABELS);
  }

  /** Whether entries have ids. */
  get hasIds(): boolean {
    return this.#store.has(IDS);
  }

  /**
   * Adds entries, overwriting the oldest ones when there is no more room. Values are copied, without gradients. With a `gather` function, those of
   * all ranks enter in the order of ranks; masks may differ between ranks.
   *
   * @param embeddings [N, D] of any floating-point dtype, on the buffer's device; N may be 0
   * @returns how many entered
   * @throws InvalidArgumentError if anything is missing, too much, or of a shape, dtype or device that does not fit, before anything changes
   */
  enqueue(embeddings: Tensor, options: EntryOptions = {}): number {
    return this.#add(embeddings, options, this.#gather, Infinity);
  }

  /** @internal As {@link RingBuffer.enqueue}, but more than `most` rows, of all ranks together, are an error. */
  enqueueAtMost(most: number, embeddings: Tensor, options: EntryOptions = {}): number {
    return this.#add(embeddings, options, this.#gather, most);
  }

  /**
   * Empties the buffer and fills it with entries of old, the oldest first: the start from a bank that another run left, or from random
   * directions. Nothing is gathered: give every rank the same.
   *
   * @throws InvalidArgumentError as {@link RingBuffer.enqueue}; the buffer is then as it was
   */
  warmStart(embeddings: Tensor, options: EntryOptions = {}): void {
    this.#add(embeddings, options, undefined, Infinity, () => this.clear());
  }

  /**
   * The embeddings that are there, [filled, D]. In the order of the buffer this is a view, which later enqueues change; for int8 it is a copy
   * in float32.
   */
  entries(order: EntryOrder = 'buffer'): Tensor {
    return noGrad(() =>
      scope(() => {
        const scales = this.#store.get('scales');
        const values = this.#ordered(this.#of('embeddings'), order);
        return decode({ values, scales: scales === undefined ? null : this.#ordered(scales, order) });
      }),
    );
  }

  /** The labels of the entries, int64 [filled]. @throws InvalidArgumentError if the buffer was made without */
  labels(order: EntryOrder = 'buffer'): Tensor {
    return this.#ordered(this.#of(LABELS), order);
  }

  /** The ids of the entries, int64 [filled]. @throws InvalidArgumentError if the buffer was made without */
  ids(order: EntryOrder = 'buffer'): Tensor {
    return this.#ordered(this.#of(IDS), order);
  }

  /** A further column, [filled, …]. @throws InvalidArgumentError if the buffer was made without */
  column(name: string, order: EntryOrder = 'buffer'): Tensor {
    return this.#ordered(this.#of(COLUMN + name), order);
  }

  /**
   * How old the entries are, int64 [filled].
   *
   * @param unit `'enqueues'` (default): how many calls of {@link RingBuffer.enqueue} came after the one that brought it, which are steps of
   * training where each step enqueues once, also if a mask lets nothing in; `'entries'`: how many entries came after it. The newest have age 0.
   */
  ages(unit: 'enqueues' | 'entries' = 'enqueues', order: EntryOrder = 'buffer'): Tensor {
    return noGrad(() =>
      scope(() => {
        if (unit === 'enqueues')
          return this.#ordered(this.#of(STAMPS), order)
            .neg()
            .add(this.#enqueues - 1);
        const rows = torch.arange(this.size, { dtype: 'int64', device: this.device });
        const ages = rows
          .neg()
          .add(this.pointer - 1 + this.size)
          .remainder(this.size);
        return this.#ordered(ages, order);
      }),
    );
  }

  /**
   * Some entries' embeddings by row of the buffer, [N, D], a copy.
   *
   * @param rows int64 [N], each below `filled`
   */
  rows(rows: Tensor): Tensor {
    return noGrad(() =>
      scope(() => {
        const scales = this.#store.get('scales');
        return decode({
          values: this.#of('embeddings').indexSelect(0, rows),
          scales: scales === undefined ? null : scales.indexSelect(0, rows),
        });
      }),
    );
  }

  /**
   * The entries with their labels and ids, ready for `contrast`.
   *
   * @param options `copy`: whether later enqueues leave them as they are, which autograd needs if one comes before the backward pass. Default
   * false: views, and LibTorch refuses a backward pass through what has changed.
   */
  candidates({ copy = false }: { copy?: boolean } = {}): MemoryCandidates {
    const taken = (x: Tensor): Tensor => (copy ? x.clone() : x);
    return {
      embeddings: taken(this.entries()),
      ...(this.hasLabels && { labels: taken(this.labels()) }),
      ...(this.hasIds && { ids: taken(this.ids()) }),
    };
  }

  /** @internal The entries in the order of the buffer in parts, for what must not widen all of them at once. */
  *parts(most: number): Generator<{ start: number; embeddings: Tensor }> {
    const scales = this.#store.get('scales');
    for (let start = 0; start < this.#filled; start += most) {
      const count = Math.min(most, this.#filled - start);
      const embeddings = scope(() => {
        const values = this.#of('embeddings').narrow(0, start, count);
        return decode({ values, scales: scales?.narrow(0, start, count) ?? null });
      });
      yield { start, embeddings };
    }
  }

  /** Empties the buffer and its counts. */
  clear(): void {
    this.#filled = 0;
    this.#total = 0;
    this.#enqueues = 0;
  }

  /** Moves the entries, or converts the embeddings to another stored type. */
  to(options: { device?: Device; dtype?: StoredDType }): this {
    const { device = this.device } = options;
    const dtype = storedDType(options.dtype ?? this.#dtype, `${this.#what}: keys`);
    noGrad(() =>
      scope(() => {
        if (dtype !== this.#dtype) {
          const values = this.#of('embeddings');
          const { values: converted, scales } = encode(
            decode({ values, scales: this.#store.get('scales') ?? null }),
            dtype,
          );
          values.setData(converted);
          this.#store.get('scales')?.dispose();
          this.#store.delete('scales');
          if (scales !== null) this.#hold('scales', scales);
          this.#dtype = dtype;
        }
        for (const tensor of this.#store.values()) tensor.setData(tensor.to({ device }));
      }),
    );
    return this;
  }

  /** Every column whole, and where the buffer stands. */
  stateDict(): StateDict {
    const tensors = new Map([...this.#store].map(([name, tensor]) => [name, tensor.detach()]));
    const { filled, total, enqueues } = this;
    return { tensors, values: { ...this.#identity(), filled, total, enqueues } };
  }

  /** @throws InvalidArgumentError what {@link RingBuffer.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  /** Goes on exactly where the buffer that gave the state stood. It must have the same size, dimension, stored type and columns. */
  loadStateDict(state: StateDict): void {
    const { tensors, filled, total, enqueues } = this.#checked(state);
    noGrad(() => {
      for (const [name, tensor] of tensors) this.#of(name).copy_(tensor).dispose();
    });
    this.#filled = filled;
    this.#total = total;
    this.#enqueues = enqueues;
  }

  /** Frees the entries now; the buffer is of no use afterwards. */
  dispose(): void {
    for (const tensor of this.#store.values()) tensor.dispose();
  }

  #hold(name: string, tensor: Tensor): void {
    this.#store.set(name, keep(tensor));
  }

  #of(name: string): Tensor {
    const tensor = this.#store.get(name);
    if (tensor === undefined) {
      const column = name.startsWith(COLUMN) ? `the column '${name.slice(COLUMN.length)}'` : name;
      throw new InvalidArgumentError(`${this.#what}: it was made without ${column}`);
    }
    return tensor;
  }

  #ordered(tensor: Tensor, order: EntryOrder): Tensor {
    const { pointer, size } = this;
    if (order === 'buffer' || this.#filled < size || pointer === 0) return tensor.narrow(0, 0, this.#filled);
    return scope(() => torch.cat([tensor.narrow(0, pointer, size - pointer), tensor.narrow(0, 0, pointer)]));
  }

  #add(
    embeddings: Tensor,
    options: EntryOptions,
    gather: GatherRows | undefined,
    most: number,
    before: () => void = () => undefined,
  ): number {
    this.#check(embeddings, options);
    const count = noGrad(() =>
      scope(() => {
        const rows = this.#entering(embeddings, options, gather, most);
        before();
        const count = rows.get('embeddings')!.sizeOf(0);
        rows.set(STAMPS, torch.full([count], this.#enqueues, { dtype: 'int64', device: this.device }));
        for (const [name, values] of rows) this.#write(this.#of(name), values);
        return count;
      }),
    );
    this.#total += count;
    this.#enqueues++;
    this.#filled = Math.min(this.size, this.#filled + count);
    return count;
  }

  /** What of all ranks enters, by the names of the state dict. */
  #entering(
    embeddings: Tensor,
    { labels, ids, columns = {}, mask }: EntryOptions,
    gather: GatherRows | undefined,
    most: number,
  ): Map<string, Tensor> {
    const { values, scales } = encode(embeddings, this.#dtype);
    const rows = new Map<string, Tensor>([['embeddings', values]]);
    if (scales !== null) rows.set('scales', scales);
    if (labels !== undefined) rows.set(LABELS, labels);
    if (ids !== undefined) rows.set(IDS, ids);
    for (const name of Object.keys(this.#columns)) rows.set(COLUMN + name, columns[name]!.detach());
    let enters = mask;
    let all = rows;
    if (gather !== undefined) {
      // Sent by every rank, so that one may leave rows out and another not.
      enters ??= torch.ones([embeddings.sizeOf(0)], { dtype: 'bool', device: this.device });
      const gathered = this.#gathered([...rows.values(), enters], gather);
      all = new Map([...rows.keys()].map((name, i) => [name, gathered[i]!]));
      enters = gathered.at(-1)!;
    }
    if (enters !== undefined) {
      const chosen = enters.nonzero().squeeze(1);
      all = new Map([...all].map(([name, x]) => [name, x.indexSelect(0, chosen)]));
    }
    const count = all.get('embeddings')!.sizeOf(0);
    if (count > most) {
      throw new InvalidArgumentError(
        `${this.#what}: a batch of ${count} keys is larger than the queue of ${most}; use a larger queue or a smaller batch`,
      );
    }
    return all;
  }

  #gathered(own: readonly Tensor[], gather: GatherRows): readonly Tensor[] {
    const all = gather(own);
    const rows = all[0]?.sizeOf(0);
    const fits =
      all.length === own.length &&
      all.every((x, i) => {
        const mine = own[i]!;
        const shape = shown([rows!, ...mine.shape.slice(1)]);
        return shown(x.shape) === shape && x.dtype === mine.dtype && x.device === mine.device;
      });
    if (!fits) {
      const list = (tensors: readonly Tensor[]): string =>
        tensors.map(({ dtype, shape, device }) => `${dtype} ${shown(shape)} on ${device}`).join(', ');
      throw new InvalidArgumentError(
        `${this.#what}: gather must return each tensor that it is given with the rows of all ranks: it was given ` +
          `${list(own)}, and returned ${list(all)}`,
      );
    }
    return all;
  }

  /** Puts rows behind what is there; of too many the last. */
  #write(target: Tensor, rows: Tensor): void {
    const { size } = this;
    const over = Math.max(0, rows.sizeOf(0) - size);
    const count = rows.sizeOf(0) - over;
    const start = (this.#total + over) % size;
    const untilEnd = Math.min(count, size - start);
    target.narrow(0, start, untilEnd).copy_(rows.narrow(0, over, untilEnd));
    if (count > untilEnd) {
      target.narrow(0, 0, count - untilEnd).copy_(rows.narrow(0, over + untilEnd, count - untilEnd));
    }
  }

  #check(embeddings: Tensor, { labels, ids, columns = {}, mask }: EntryOptions): void {
    const what = this.#what;
    checkRows(embeddings, this.dimension, this.device, what);
    const count = embeddings.sizeOf(0);
    const given = { [LABELS]: labels, [IDS]: ids };
    for (const [name, value] of Object.entries(given)) {
      if ((value !== undefined) !== this.#store.has(name)) {
        throw new InvalidArgumentError(
          `${what}: ${value === undefined ? `every entry needs ${name}` : `it was made without ${name}`}`,
        );
      }
      if (value !== undefined) checkColumn(value, [count], 'int64', this.device, what, name);
    }
    for (const name of new Set([...Object.keys(this.#columns), ...Object.keys(columns)])) {
      const spec = this.#columns[name];
      const value = columns[name];
      if (spec === undefined) throw new InvalidArgumentError(`${what}: it was made without the column '${name}'`);
      if (value === undefined) throw new InvalidArgumentError(`${what}: every entry needs the column '${name}'`);
      checkColumn(value, [count, ...spec.shape], spec.dtype, this.device, what, `column '${name}'`);
    }
    if (mask !== undefined) checkColumn(mask, [count], 'bool', this.device, what, 'the mask');
  }

  #identity(): Record<string, JsonValue> {
    const { size, dimension, dtype } = this;
    return { size, dimension, dtype };
  }

  #checked(state: StateDict): { tensors: Map<string, Tensor>; filled: number; total: number; enqueues: number } {
    const what = `${this.#what}: the state dict`;
    const tensors = new Map(
      [...this.#store].map(([name, { shape, dtype }]) => [name, stateTensor(state, name, shape, dtype, what)]),
    );
    const surplus = [...state.tensors.keys()].find((name) => !tensors.has(name));
    if (surplus !== undefined) {
      throw new InvalidArgumentError(`${what} holds '${surplus}', which this one was made without`);
    }
    const values = stateValues(state, this.#identity(), what);
    const [filled, total, enqueues] = ['filled', 'total', 'enqueues'].map((name) => stateCount(values, name, what)) as [
      number,
      number,
      number,
    ];
    if (filled !== Math.min(this.size, total)) {
      throw new InvalidArgumentError(
        `${what}: filled ${filled} and total ${total} do not fit a buffer of ${this.size}`,
      );
    }
    return { tensors, filled, total, enqueues };
  }
}
