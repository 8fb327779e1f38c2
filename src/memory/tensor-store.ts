/** Memories that hold tensors of fixed shapes. */
import { noGrad, scope, type Device, type Generator, type Tensor } from '../torch';
import type { JsonObject, StateDict, Stateful } from '../torch/state';
import { stateTensor, stateValues } from './checks';

/** What such memories share: their tensors move, are saved, loaded and freed together. */
export abstract class TensorStore implements Stateful {
  /** The tensors by their names in a state dict; null for one that this configuration does not have. */
  protected abstract get stored(): Readonly<Record<string, Tensor | null>>;

  /** Where draws come from, where there are any; part of the state. */
  protected get randomness(): Generator | null {
    return null;
  }

  /** What must be the same where a state is loaded. */
  protected get settings(): JsonObject {
    return {};
  }

  /** Where the tensors are. */
  get device(): Device {
    return this.#tensors()[0]![1].device;
  }

  /** Moves all that is held. */
  to({ device = this.device }: { device?: Device }): this {
    scope(() => {
      for (const [, tensor] of this.#tensors()) tensor.setData(tensor.to({ device }));
    });
    return this;
  }

  stateDict(): StateDict {
    const tensors = new Map(this.#tensors().map(([name, tensor]) => [name, tensor.detach()] as const));
    if (this.randomness !== null) tensors.set('generator', this.randomness.getState());
    return { tensors, values: this.settings };
  }

  /** @throws InvalidArgumentError what {@link TensorStore.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    const what = `${this.constructor.name}: the state dict`;
    stateValues(state, this.settings, what);
    for (const [name, { shape, dtype }] of this.stateDict().tensors) {
      stateTensor(state, name, shape, dtype, what);
    }
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    this.randomness?.setState(state.tensors.get('generator')!);
    noGrad(() => {
      for (const [name, tensor] of this.#tensors()) tensor.copy_(state.tensors.get(name)!).dispose();
    });
  }

  /** Frees all that is held now; the memory is of no use afterwards. */
  dispose(): void {
    for (const [, tensor] of this.#tensors()) tensor.dispose();
  }

  #tensors(): [string, Tensor][] {
    return Object.entries(this.stored).filter((entry): entry is [string, Tensor] => entry[1] !== null);
  }
}
