/** What the lower parts need to know of a tensor: its slot in the addon's table, and the scope that will free it. */
export class TensorHandle {
  /** @internal The slot in the addon's table; 0 once disposed. */
  handle: number;
  /** @internal The scope that frees this tensor when it ends; null when garbage collection does. */
  owner: object | null;

  // Assignments, not initial values: those are defined one by one, which costs as much as a small operator's own call.
  constructor(handle: number) {
    this.handle = handle;
    this.owner = null;
  }
}
