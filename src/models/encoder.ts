import type { Module } from '../nn';

/** A module that turns a batch into one vector a sample: [N, …] to [N, outputSize]. */
export interface Encoder extends Module {
  /** The size of the vector. */
  readonly outputSize: number;
}
