/** Hooks on gradients. */
import { InvalidArgumentError } from './errors';
import { wrap } from './frame';
import { native } from './native';
import { scope } from './scope';
import type { Tensor } from './tensor';

/** A hook that was registered. */
export interface Hook {
  /** Takes it away again. Doing so twice is harmless. */
  remove(): void;
}

/** A hook on a gradient: what it returns, if anything, takes the gradient's place. */
// eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- a hook that only looks needs no return
export type GradientHook = (gradient: Tensor) => Tensor | void;

/** @internal */
export function addHook(tensor: Tensor, hook: GradientHook): Hook {
  if (typeof hook !== 'function') throw new InvalidArgumentError('a hook is a function');
  let isRemoved = false;
  const number = native.registerHook(tensor.handle, (handle) => {
    scope(() => {
      const gradient = wrap(handle) as Tensor;
      const other = isRemoved ? undefined : hook(gradient);
      native.give(other === undefined ? [] : [other.handle]);
    });
  });
  return {
    remove() {
      if (isRemoved) return;
      isRemoved = true;
      if (!tensor.isDisposed) native.removeHook(tensor.handle, number);
    },
  };
}

/** @internal */
export function setAccumulationHook(leaf: Tensor, hook: ((leaf: Tensor) => void) | null): void {
  if (!leaf.isLeaf || !leaf.requiresGrad) {
    throw new InvalidArgumentError('gradients accumulate only in leaves that need them');
  }
  native.setAccumulationHook(
    leaf.handle,
    hook === null
      ? undefined
      : (handle) => {
          scope(() => {
            hook(wrap(handle) as Tensor);
            native.give([]);
          });
        },
  );
}
