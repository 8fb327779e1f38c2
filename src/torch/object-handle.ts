/** Objects of LibTorch that have no JavaScript form: packed weights, storages, process groups. */
import { native } from './native';

const collected = new FinalizationRegistry<number>((index) => {
  native.releaseObject(index);
});

/**
 * An object of LibTorch that JavaScript can only hand back, to operators that take it: the packed weights that
 * `ops.quantized.linear_prepack` makes, or the storage of a tensor. Freed by garbage collection.
 */
export class TorchObject {
  /** @internal The number of the object in the addon's table. */
  readonly index: number;

  /** @internal */
  constructor(index: number) {
    this.index = index;
    collected.register(this, index);
  }

  /** LibTorch's name of the object's type, as it stands in schemas. */
  get type(): string {
    return native.objectType(this.index);
  }

  toString(): string {
    return `TorchObject(${this.type})`;
  }
}

/** What stands for an object of LibTorch in a call, and is turned into one when it is used: a stream. */
export abstract class ObjectSource {
  /** @internal The number of a new object in the addon's table. */
  abstract toObject(): TorchObject;
}
