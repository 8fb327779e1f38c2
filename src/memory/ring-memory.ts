/** Memories that stand on one ring buffer. */
import type { Device } from '../torch';
import type { StateDict, Stateful } from '../torch/state';
import type { RingBuffer } from './ring-buffer';
import type { StoredDType } from './stored';

/** What memories on a ring buffer share. */
export abstract class RingMemory implements Stateful {
  /** What is beneath: ages, columns, entries in order of age. */
  readonly buffer: RingBuffer;

  protected constructor(buffer: RingBuffer) {
    this.buffer = buffer;
  }

  /** How many embeddings it holds now. */
  get filled(): number {
    return this.buffer.filled;
  }

  /** Empties the memory. */
  clear(): void {
    this.buffer.clear();
  }

  /** Moves the memory, or converts it to another stored type. */
  to(options: { device?: Device; dtype?: StoredDType }): this {
    this.buffer.to(options);
    return this;
  }

  stateDict(): StateDict {
    return this.buffer.stateDict();
  }

  /** @throws InvalidArgumentError what {@link RingMemory.loadStateDict} would throw; changes nothing */
  checkStateDict(state: StateDict): void {
    this.buffer.checkStateDict(state);
  }

  loadStateDict(state: StateDict): void {
    this.buffer.loadStateDict(state);
  }

  /** Frees the embeddings now; the memory is of no use afterwards. */
  dispose(): void {
    this.buffer.dispose();
  }
}
