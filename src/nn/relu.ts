import type { Tensor } from '../torch';
import { Module } from './module';

/** max(x, 0), element by element. */
export class ReLU extends Module {
  readonly inPlace: boolean;

  /**
   * @param options `inPlace` (default false): whether to overwrite the input, which saves memory where nothing else needs it
   */
  constructor(options: { inPlace?: boolean } = {}) {
    super();
    this.inPlace = options.inPlace ?? false;
  }

  override forward(x: Tensor): Tensor {
    return this.inPlace ? x.relu_() : x.relu();
  }
}
