import type { AnyModule } from '../nn';
import { isFrozen } from './freeze';

/**
 * Runs `body` while modules compute otherwise: `replacement(module, inputs, compute)` takes the place of `forward`, and
 * `compute()` gives what the module itself would have. The modules are as before afterwards, also when `body` throws.
 *
 * @internal
 */
export function withForward<T>(
  modules: Iterable<AnyModule>,
  replacement: (module: AnyModule, inputs: unknown[], compute: () => unknown) => unknown,
  body: () => T,
): T {
  const undo: (() => void)[] = [];
  try {
    for (const module of modules) {
      const own = Object.getOwnPropertyDescriptor(module, 'forward');
      const forward = module.forward.bind(module);
      Object.defineProperty(module, 'forward', {
        configurable: true,
        value: (...inputs: unknown[]) => replacement(module, inputs, () => forward(...inputs)),
      });
      undo.push(() => {
        if (own === undefined) Reflect.deleteProperty(module, 'forward');
        else Object.defineProperty(module, 'forward', own);
      });
    }
    return body();
  } finally {
    for (const step of undo.reverse()) step();
  }
}

/**
 * Runs `body` with all modules below `root` in training or evaluation mode, and puts each back in its own. Frozen ones stay frozen.
 *
 * @internal
 */
export function inMode<T>(root: AnyModule, training: boolean, body: () => T): T {
  const free = root.modules().filter((module) => !isFrozen(module));
  const before = free.map((module) => [module, module.training] as const);
  for (const module of free) module.training = training;
  try {
    return body();
  } finally {
    for (const [module, own] of before) module.training = own;
  }
}
