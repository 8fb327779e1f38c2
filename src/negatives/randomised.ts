/** What draws: random numbers are part of its state. */
import { Generator, InvalidArgumentError } from '../torch';
import type { StateDict, Stateful } from '../torch/state';

/** Something that draws from a generator of its own, whose state is in its state dict. */
export abstract class Randomised implements Stateful {
  protected readonly generator: Generator;
  readonly #name: string;

  protected constructor(name: string, seed: number | bigint | Generator) {
    this.#name = name;
    this.generator = seed instanceof Generator ? seed : new Generator({ seed });
  }

  /** The state of the random numbers. */
  stateDict(): StateDict {
    return { tensors: new Map([['generator', this.generator.getState()]]), values: {} };
  }

  /** @throws InvalidArgumentError what {@link Randomised.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    const saved = state.tensors.get('generator');
    if (saved === undefined) throw new InvalidArgumentError(`${this.#name}: the state dict lacks 'generator'`);
    try {
      new Generator({ device: this.generator.device }).setState(saved);
    } catch (cause) {
      throw new InvalidArgumentError(
        `${this.#name}: the state dict's 'generator' is no state of a generator of ${this.generator.device}`,
        { cause },
      );
    }
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    this.generator.setState(state.tensors.get('generator')!);
  }
}
