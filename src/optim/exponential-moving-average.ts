import { InvalidArgumentError, noGrad, ops, type Tensor } from '../torch';
import { jsonNumber, jsonObject, type StateDict, type Stateful } from '../torch/state';
import type { AnyModule } from '../nn';
import { integerFrom, numberWithin } from '../nn/checks';
import type { MomentumSchedule } from './momentum-schedule';

/**
 * What happens to buffers such as running means: they are copied from the source, averaged like the parameters (integers
 * are copied), or left to the target.
 */
export type BufferPolicy = 'copy' | 'average' | 'keep';

/** What an {@link ExponentialMovingAverage} is made from. */
export interface ExponentialMovingAverageOptions {
  /** The module that is trained. */
  source: AnyModule;
  /** A module of the same structure that holds the average. It is not changed until the first step. */
  target: AnyModule;
  /** m, or a schedule of it. Default 0.999. */
  momentum?: MomentumSchedule;
  /** Default `'copy'`. */
  buffers?: BufferPolicy;
}

/**
 * Keeps a module's parameters at the moving average of another's: target ← m · target + (1 − m) · source. The average
 * itself is the target's own state; this object only counts steps.
 */
export class ExponentialMovingAverage implements Stateful {
  readonly #momentum: MomentumSchedule;
  readonly #averaged: { targets: Tensor[]; sources: Tensor[] };
  readonly #copied: { targets: Tensor[]; sources: Tensor[] };
  #steps = 0;

  /**
   * @throws InvalidArgumentError if the two modules differ in structure
   */
  constructor(options: ExponentialMovingAverageOptions) {
    const { source, target, momentum = 0.999, buffers = 'copy' } = options;
    if (typeof momentum === 'number') numberWithin(0, 1, momentum, 'ExponentialMovingAverage: momentum');
    this.#momentum = momentum;
    this.#averaged = paired(source.namedParameters(), target.namedParameters(), 'parameter');
    this.#copied = { targets: [], sources: [] };
    if (buffers !== 'keep') {
      const all = paired(source.namedBuffers(), target.namedBuffers(), 'buffer');
      all.targets.forEach((tensor, index) => {
        const list = buffers === 'average' && tensor.isFloatingPoint() ? this.#averaged : this.#copied;
        list.targets.push(tensor);
        list.sources.push(all.sources[index]!);
      });
    }
  }

  /** How many steps have been taken. */
  get steps(): number {
    return this.#steps;
  }

  /** The momentum of the next step. */
  get momentum(): number {
    return typeof this.#momentum === 'number'
      ? this.#momentum
      : numberWithin(0, 1, this.#momentum(this.#steps), 'ExponentialMovingAverage: the scheduled momentum');
  }

  /** Moves the target towards the source by one step. */
  step(): void {
    const { momentum } = this;
    noGrad(() => {
      if (this.#averaged.targets.length > 0) {
        ops.aten._foreach_lerp_.Scalar(this.#averaged.targets, this.#averaged.sources, 1 - momentum);
      }
      if (this.#copied.targets.length > 0) ops.aten._foreach_copy_(this.#copied.targets, this.#copied.sources);
    });
    this.#steps++;
  }

  stateDict(): StateDict {
    return { tensors: new Map(), values: { steps: this.#steps } };
  }

  /** @throws InvalidArgumentError what {@link ExponentialMovingAverage.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    savedSteps(state);
  }

  loadStateDict(state: StateDict): void {
    this.#steps = savedSteps(state);
  }
}

function savedSteps(state: StateDict): number {
  const what = 'ExponentialMovingAverage: the values of the state dict';
  return integerFrom(0, jsonNumber(jsonObject(state.values, what), 'steps', what), `${what}: steps`);
}

function paired(
  sources: ReadonlyMap<string, Tensor>,
  targets: ReadonlyMap<string, Tensor>,
  kind: string,
): { targets: Tensor[]; sources: Tensor[] } {
  for (const [name, source] of sources) {
    const target = targets.get(name);
    if (target?.shape.join() !== source.shape.join()) {
      throw new InvalidArgumentError(
        `ExponentialMovingAverage: the source's ${kind} '${name}' has shape [${source.shape.join(', ')}], the target's ` +
          (target === undefined ? 'does not exist' : `has [${target.shape.join(', ')}]`),
      );
    }
  }
  for (const name of targets.keys()) {
    if (!sources.has(name)) {
      throw new InvalidArgumentError(`ExponentialMovingAverage: the target's ${kind} '${name}' is not in the source`);
    }
  }
  return { sources: [...sources.values()], targets: [...sources.keys()].map((name) => targets.get(name)!) };
}
