import type { Tensor } from '../torch';
import { jsonObject, partOfState, type StateDict, type Stateful } from '../torch/state';
import type { Module, ModuleToOptions } from '../nn';
import { ExponentialMovingAverage, type BufferPolicy, type MomentumSchedule } from '../optim';

/** What a {@link MomentumPair} is made from. */
export interface MomentumPairOptions<M extends Module> {
  /** Makes the module; called twice. */
  build: () => M;
  /** m, or a schedule of it. Default 0.999. */
  momentum?: MomentumSchedule;
  /** What happens to the copy's buffers, such as running means. Default `'keep'`: its own forward passes move them. */
  buffers?: BufferPolicy;
}

/**
 * A module that is trained (the query side) and a slowly following copy of it (the key side): key ← m · key + (1 − m) · query
 * (He et al. 2020). The copy starts equal and never gets gradients.
 */
export class MomentumPair<M extends Module = Module> implements Stateful {
  readonly query: M;
  readonly key: M;
  readonly #average: ExponentialMovingAverage;

  constructor(options: MomentumPairOptions<M>) {
    const { build, momentum, buffers = 'keep' } = options;
    this.query = build();
    this.key = build();
    this.key.loadStateDict(this.query.stateDict());
    this.key.requiresGrad_(false);
    this.#average = new ExponentialMovingAverage({ source: this.query, target: this.key, momentum, buffers });
  }

  /** How many times the copy has followed. */
  get steps(): number {
    return this.#average.steps;
  }

  /** The momentum of the next {@link MomentumPair.update}. */
  get momentum(): number {
    return this.#average.momentum;
  }

  /** Moves the copy towards the trained module by one step. */
  update(): void {
    this.#average.step();
  }

  /** Moves or converts both modules. */
  to(options: ModuleToOptions): this {
    this.query.to(options);
    this.key.to(options);
    return this;
  }

  stateDict(): StateDict {
    const tensors = new Map<string, Tensor>([...this.query.stateDict('query.'), ...this.key.stateDict('key.')]);
    return { tensors, values: { query: {}, key: {}, average: this.#average.stateDict().values } };
  }

  /** @throws InvalidArgumentError what {@link MomentumPair.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    jsonObject(state.values, 'MomentumPair: the values of the state dict');
    this.query.checkStateDict(partOfState(state, 'query').tensors);
    this.key.checkStateDict(partOfState(state, 'key').tensors);
    this.#average.checkStateDict(partOfState(state, 'average'));
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    this.query.loadStateDict(partOfState(state, 'query').tensors);
    this.key.loadStateDict(partOfState(state, 'key').tensors);
    this.#average.loadStateDict(partOfState(state, 'average'));
  }

  /** Frees both modules now. */
  dispose(): void {
    this.query.dispose();
    this.key.dispose();
  }
}
