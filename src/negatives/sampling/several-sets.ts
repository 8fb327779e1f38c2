/** What samplers over several data sets share. */
import { deriveSeed } from '../../data/seed';
import { integerFrom } from '../../nn/checks';
import { InvalidArgumentError, joinStates, partOfState, type JsonObject, type StateDict } from '../../torch';
import { jsonNumber, jsonObject } from '../../torch/state';
import type { SampledBatch, Sampler } from './sampler';

/** A batch of one of several data sets. */
export interface SetBatch<B extends SampledBatch = SampledBatch> extends SampledBatch {
  /** Which data set the batch is of. */
  set: number;
  /** What its own sampler gave; `indices` of the batch itself count through all sets, one after the other. */
  own: B;
}

/** What samplers over several data sets take. */
export interface SeveralSetsOptions {
  /** One for each data set. They are asked for batches by nobody else. */
  samplers: readonly Sampler[];
  /** Default: 0. */
  seed?: number;
}

/**
 * Batches of several data sets, each batch of one of them, from their own samplers. An epoch starts an epoch of every one of them. Ranks are
 * shared out by these samplers: give each the same shard.
 */
export abstract class SeveralSetsSampler implements Sampler<SetBatch> {
  readonly samplers: readonly Sampler[];
  readonly seed: number;
  readonly size: number;
  /** Where the rows of each set start among those of all. */
  readonly offsets: readonly number[];
  #epoch = 0;
  #position = 0;
  #plan: { epoch: number; sets: Int32Array } | undefined;

  /** @throws InvalidArgumentError for no samplers, or one that has been given before */
  constructor(options: SeveralSetsOptions) {
    const { samplers, seed = 0 } = options;
    deriveSeed(seed);
    if (samplers.length === 0 || new Set(samplers).size < samplers.length) {
      throw new InvalidArgumentError(`${this.constructor.name}: samplers must be one or more, all different`);
    }
    this.samplers = samplers;
    this.seed = seed;
    let size = 0;
    this.offsets = samplers.map((sampler) => (size += sampler.size) - sampler.size);
    this.size = size;
  }

  /** The set of each batch of an epoch, from the number of batches that each has. */
  protected abstract order(counts: readonly number[], epoch: number): Int32Array;

  /** Options that the order follows from, besides the seed. */
  protected identity(): JsonObject {
    return {};
  }

  get batchesPerEpoch(): number {
    return this.#sets().length;
  }

  get currentEpoch(): number {
    return this.#epoch;
  }

  get position(): number {
    return this.#position;
  }

  next(): SetBatch {
    const [epoch, step] = [this.#epoch, this.#position];
    const sets = this.#sets();
    const set = sets[step]!;
    const own = this.samplers[set]!.next();
    const batch = { indices: own.indices.map((row) => row + this.offsets[set]!), epoch, step, set, own };
    this.#position++;
    if (this.#position === sets.length) this.startEpoch(epoch + 1);
    return batch;
  }

  startEpoch(number: number): void {
    this.#epoch = integerFrom(0, number, `${this.constructor.name}: the epoch`);
    this.#position = 0;
    this.#plan = undefined;
    for (const sampler of this.samplers) sampler.startEpoch(number);
  }

  /** The batches of one epoch: those still to come when it is the current one, else all of them. */
  *batches(epoch = this.#epoch): Generator<SetBatch, void, undefined> {
    if (epoch !== this.#epoch) this.startEpoch(epoch);
    while (this.#epoch === epoch) yield this.next();
  }

  /** The order of the sets, and the state of each sampler. */
  stateDict(): StateDict {
    const parts = Object.fromEntries(this.samplers.map((sampler, set) => [String(set), sampler.stateDict()]));
    const { tensors, values } = joinStates(parts);
    const sets = Array.from(this.#sets());
    return {
      tensors,
      values: { ...this.#identity(), epoch: this.#epoch, position: this.#position, sets, samplers: values },
    };
  }

  checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  loadStateDict(state: StateDict): void {
    const { epoch, position, sets, parts } = this.#checked(state);
    this.samplers.forEach((sampler, set) => sampler.loadStateDict(parts[set]!));
    this.#epoch = epoch;
    this.#position = position;
    this.#plan = { epoch, sets };
  }

  #checked(state: StateDict): { epoch: number; position: number; sets: Int32Array; parts: StateDict[] } {
    const what = `${this.constructor.name}: the state dict`;
    const values = jsonObject(state.values, what);
    for (const [name, value] of Object.entries(this.#identity())) {
      if (values[name] === value) continue;
      throw new InvalidArgumentError(
        `${what} has ${name} ${JSON.stringify(values[name])}, this sampler ${JSON.stringify(value)}`,
      );
    }
    const epoch = integerFrom(0, jsonNumber(values, 'epoch', what), `${what}: epoch`);
    const position = integerFrom(0, jsonNumber(values, 'position', what), `${what}: position`);
    const saved = values['sets'];
    const known = (set: unknown) => Number.isInteger(set) && Number(set) >= 0 && Number(set) < this.samplers.length;
    if (!Array.isArray(saved) || position >= saved.length || !saved.every(known)) {
      throw new InvalidArgumentError(
        `${what}: 'sets' must be the numbers of the sets, more of them than position ${position}`,
      );
    }
    const joined = { tensors: state.tensors, values: jsonObject(values['samplers'], `${what}: samplers`) };
    const parts = this.samplers.map((sampler, set) => {
      const part = partOfState(joined, String(set));
      sampler.checkStateDict(part);
      return part;
    });
    return { epoch, position, sets: Int32Array.from(saved as number[]), parts };
  }

  #identity(): JsonObject {
    return { sampler: this.constructor.name, seed: this.seed, count: this.samplers.length, ...this.identity() };
  }

  /** The order is fixed when the epoch starts, and saved: samplers say how many batches are left only as long as they stand there. */
  #sets(): Int32Array {
    if (this.#plan?.epoch !== this.#epoch) {
      for (const sampler of this.samplers) sampler.startEpoch(this.#epoch);
      const counts = this.samplers.map((sampler) => sampler.batchesPerEpoch);
      const sets = this.order(counts, this.#epoch);
      if (sets.length === 0) {
        throw new InvalidArgumentError(`${this.constructor.name}: epoch ${this.#epoch} has not one batch`);
      }
      this.#plan = { epoch: this.#epoch, sets };
    }
    return this.#plan.sets;
  }
}
