/** What all samplers share: seeds, epochs, shards and state. */
import type { SampledBatch, Sampler } from '../../data/loader';
import { deriveSeed } from '../../data/seed';
import { integerFrom, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, torch, type JsonObject, type StateDict, type Tensor } from '../../torch';
import { jsonNumber, jsonObject } from '../../torch/state';
import { RandomSource } from './random-source';

export type { SampledBatch, Sampler } from '../../data/loader';

/** Which part of each batch a process gets. */
export interface Shard {
  /** This process, from 0 to `worldSize` − 1. */
  rank: number;
  worldSize: number;
  /**
   * What is done with a batch whose rows can't be shared out evenly: `'pad'` repeats its first rows, `'drop'` leaves its last rows out (and
   * a batch of fewer rows than processes altogether). Default: `'pad'`, but `'drop'` where a sampler promises that no row stands in a batch
   * twice.
   */
  remainder?: 'pad' | 'drop';
}

/** What every sampler takes. */
export interface SamplerOptions {
  /** Decides all that is random, with the epoch's number. Default: 0. */
  seed?: number;
  /** Default: one process, which gets every batch whole. */
  shard?: Shard;
}

/**
 * A sampler whose epochs follow from its options, its seed and the epoch's number: each epoch is planned as a whole, the same on every
 * rank and for every world size, and rank r of W gets the r-th of W equal parts of each batch. So the batch as a whole does not depend on
 * the number of processes, and a state saved by one rank or in one world size continues exactly on any other.
 */
export abstract class EpochSampler<B extends SampledBatch = SampledBatch> implements Sampler<B> {
  readonly size: number;
  readonly seed: number;
  readonly shard: Required<Shard>;
  #epoch = 0;
  /** The batches of the current epoch that were handed out or stepped over. */
  #cursor = 0;
  #plan: { epoch: number; batches: readonly Int32Array[] } | undefined;

  /** @throws InvalidArgumentError naming the option that does not fit */
  protected constructor(size: number, options: SamplerOptions, remainder: 'pad' | 'drop' = 'pad') {
    const { seed = 0, shard = { rank: 0, worldSize: 1 } } = options;
    deriveSeed(seed);
    this.size = positiveInteger(size, `${this.name}: the number of rows`);
    this.seed = seed;
    const worldSize = positiveInteger(shard.worldSize, `${this.name}: shard.worldSize`);
    const rank = integerFrom(0, shard.rank, `${this.name}: shard.rank`);
    if (rank >= worldSize) {
      throw new InvalidArgumentError(`${this.name}: shard.rank ${rank} is none of ${worldSize} processes`);
    }
    this.shard = { rank, worldSize, remainder: shard.remainder ?? remainder };
    if (!['pad', 'drop'].includes(this.shard.remainder)) {
      throw new InvalidArgumentError(
        `${this.name}: shard.remainder must be 'pad' or 'drop', found '${this.shard.remainder}'`,
      );
    }
  }

  /** The class's name, for messages and states. */
  protected get name(): string {
    return this.constructor.name;
  }

  /** All batches of an epoch, whole, in their order. */
  protected abstract plan(epoch: number, random: RandomSource): readonly Int32Array[];

  /** All that the batches follow from, besides seed, epoch and size: options, and digests of labels and the like. */
  protected abstract identity(): JsonObject;

  /** The batch that is handed out: samplers that give more than positions add it here. */
  protected complete(batch: SampledBatch): B {
    return batch as B;
  }

  get batchesPerEpoch(): number {
    return this.#batches().filter((batch) => this.#usable(batch)).length;
  }

  get currentEpoch(): number {
    return this.#epoch;
  }

  get position(): number {
    return this.#batches()
      .slice(0, this.#cursor)
      .filter((batch) => this.#usable(batch)).length;
  }

  /** Whether no batch of the current epoch has been handed out yet. */
  protected get atStart(): boolean {
    return this.#cursor === 0;
  }

  /** @throws InvalidArgumentError if the epoch would have no batch */
  next(): B {
    const epoch = this.#epoch;
    const batches = this.#batches();
    while (this.#cursor < batches.length && !this.#usable(batches[this.#cursor]!)) this.#cursor++;
    const step = this.#cursor;
    if (step === batches.length) {
      throw new InvalidArgumentError(
        `${this.name}: epoch ${epoch} has not one batch: give more data or a smaller batch`,
      );
    }
    const batch = this.complete({ indices: this.#part(batches[step]!), epoch, step });
    this.#cursor++;
    while (this.#cursor < batches.length && !this.#usable(batches[this.#cursor]!)) this.#cursor++;
    if (this.#cursor === batches.length) this.startEpoch(epoch + 1);
    return batch;
  }

  startEpoch(number: number): void {
    this.#epoch = integerFrom(0, number, `${this.name}: the epoch`);
    this.#cursor = 0;
  }

  /** The batches of one epoch: those still to come when it is the current one, else all of them. */
  *batches(epoch = this.#epoch): Generator<B, void, undefined> {
    if (epoch !== this.#epoch) this.startEpoch(epoch);
    while (this.#epoch === epoch) yield this.next();
  }

  stateDict(): StateDict {
    const values = { ...this.#identity(), epoch: this.#epoch, position: this.#cursor };
    return { tensors: new Map(), values };
  }

  checkStateDict(state: StateDict): void {
    const undo = this.snapshot();
    try {
      this.#adoptFitting(state);
    } finally {
      undo();
    }
  }

  /** @throws InvalidArgumentError when that sampler had other data or options, as the batches would differ; nothing has changed then */
  loadStateDict(state: StateDict): void {
    const undo = this.snapshot();
    try {
      this.#adoptFitting(state);
    } catch (error) {
      undo();
      throw error;
    }
  }

  /** What takes the sampler back to where it stands now. */
  protected snapshot(): () => void {
    const [epoch, cursor, plan] = [this.#epoch, this.#cursor, this.#plan];
    return () => {
      this.#epoch = epoch;
      this.#cursor = cursor;
      this.#plan = plan;
    };
  }

  /** Takes over a saved state, of which the plan is not yet known to have as many batches. */
  protected adopt(state: StateDict): void {
    const { epoch, position } = this.#checked(state);
    this.#epoch = epoch;
    this.#cursor = position;
    this.forget();
  }

  #adoptFitting(state: StateDict): void {
    this.adopt(state);
    if (this.#cursor > 0 && this.#cursor >= this.#batches().length) {
      throw new InvalidArgumentError(
        `${this.name}: the state dict has position ${this.#cursor}, but epoch ${this.#epoch} has ${this.#batches().length} batches`,
      );
    }
  }

  /** Plans the current epoch anew when it is next asked for. */
  protected forget(): void {
    this.#plan = undefined;
  }

  #checked(state: StateDict): { epoch: number; position: number } {
    const what = `${this.name}: the state dict`;
    const values = jsonObject(state.values, what);
    for (const [name, value] of Object.entries(this.#identity())) {
      if (JSON.stringify(values[name]) !== JSON.stringify(value)) {
        throw new InvalidArgumentError(
          `${what} has ${name} ${JSON.stringify(values[name])}, this sampler ${JSON.stringify(value)}: its batches would differ. Use ` +
            'the same options and data, or start a new run.',
        );
      }
    }
    return {
      epoch: integerFrom(0, jsonNumber(values, 'epoch', what), `${what}: epoch`),
      position: integerFrom(0, jsonNumber(values, 'position', what), `${what}: position`),
    };
  }

  #identity(): JsonObject {
    return { sampler: this.name, size: this.size, seed: this.seed, ...this.identity() };
  }

  #batches(): readonly Int32Array[] {
    if (this.#plan?.epoch !== this.#epoch) {
      const epoch = this.#epoch;
      this.#plan = { epoch, batches: this.plan(epoch, new RandomSource(this.seed, epoch)) };
    }
    return this.#plan.batches;
  }

  #usable(batch: Int32Array): boolean {
    const { worldSize, remainder } = this.shard;
    return batch.length >= (remainder === 'drop' ? worldSize : 1);
  }

  #part(batch: Int32Array): Int32Array {
    const { rank, worldSize, remainder } = this.shard;
    if (worldSize === 1) return batch.slice();
    const share = remainder === 'drop' ? Math.floor(batch.length / worldSize) : Math.ceil(batch.length / worldSize);
    return Int32Array.from({ length: share }, (_, row) => batch[(rank * share + row) % batch.length]!);
  }
}

/** Integers on the host that were made from embeddings: clusters, neighbours. */
export type Derived = Record<string, Int32Array>;

/**
 * A sampler that arranges the rows by embeddings. What {@link RefreshableSampler.refresh} makes of them holds from the next epoch on, so
 * that no epoch changes under way, or at once if no batch of the current epoch has been handed out. It is part of the state, and
 * embeddings need not be computed again to resume.
 */
export abstract class RefreshableSampler<B extends SampledBatch = SampledBatch> extends EpochSampler<B> {
  #active: Derived | undefined;
  #pending: Derived | undefined;

  /** What the plan follows from; undefined before the first refresh. */
  protected get derived(): Derived | undefined {
    return this.#active;
  }

  /** Sets what the plan follows from as if by a refresh. */
  protected renew(derived: Derived): void {
    if (this.atStart) {
      this.#active = derived;
      this.#pending = undefined;
      this.forget();
    } else {
      this.#pending = derived;
    }
  }

  /** The names of what is derived, and the length that each has. */
  protected abstract derivedLengths(): Record<string, number>;

  /** The numbers that entry `name` may hold: from `low` to `high`. */
  protected abstract derivedRange(name: string): readonly [low: number, high: number];

  override startEpoch(number: number): void {
    super.startEpoch(number);
    if (this.#pending) {
      this.#active = this.#pending;
      this.#pending = undefined;
    }
    this.forget();
  }

  override stateDict(): StateDict {
    const { values } = super.stateDict();
    const tensors = new Map<string, Tensor>();
    for (const [stage, derived] of [
      ['active', this.#active],
      ['pending', this.#pending],
    ] as const) {
      for (const [name, numbers] of Object.entries(derived ?? {})) {
        tensors.set(`${stage}.${name}`, torch.fromTypedArray(numbers));
      }
    }
    return { tensors, values };
  }

  protected override snapshot(): () => void {
    const undo = super.snapshot();
    const [active, pending] = [this.#active, this.#pending];
    return () => {
      undo();
      this.#active = active;
      this.#pending = pending;
    };
  }

  protected override adopt(state: StateDict): void {
    super.adopt(state);
    this.#active = this.#stage(state, 'active');
    this.#pending = this.#stage(state, 'pending');
  }

  #stage(state: StateDict, stage: string): Derived | undefined {
    const lengths = Object.entries(this.derivedLengths());
    const found = lengths.filter(([name]) => state.tensors.has(`${stage}.${name}`));
    if (found.length === 0) return undefined;
    return Object.fromEntries(
      lengths.map(([name, length]) => {
        const what = `${this.name}: '${stage}.${name}' of the state dict`;
        const tensor = state.tensors.get(`${stage}.${name}`);
        if (tensor?.dtype !== 'int32' || tensor.shape.join() !== String(length)) {
          const is = tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'none';
          throw new InvalidArgumentError(`${what} must be int32 [${length}], found ${is}`);
        }
        const numbers = Int32Array.from(tensor.dataSync() as Int32Array);
        const [low, high] = this.derivedRange(name);
        const wrong = numbers.find((number) => number < low || number > high);
        if (wrong !== undefined)
          throw new InvalidArgumentError(`${what} must run from ${low} to ${high}, found ${wrong}`);
        return [name, numbers];
      }),
    );
  }
}

/** Consecutive rows as batches of `batchSize`; with `dropLast` without a last one that has fewer. */
export function inBatches(rows: Int32Array, batchSize: number, dropLast: boolean): Int32Array[] {
  const count = dropLast ? Math.floor(rows.length / batchSize) : Math.ceil(rows.length / batchSize);
  return Array.from({ length: count }, (_, batch) => rows.slice(batch * batchSize, (batch + 1) * batchSize));
}
