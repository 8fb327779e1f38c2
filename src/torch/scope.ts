/// <reference lib="esnext.disposable" preserve="true" />
/** Who frees a tensor: the scope it was made in, `dispose()`, or garbage collection. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { InvalidArgumentError } from './errors';
import { pool } from './frame-memory';
import { TensorHandle } from './handle';
import { native } from './native';

const collected = new FinalizationRegistry<number>((handle) => {
  native.release(handle);
});

const asyncScopes = new AsyncLocalStorage<Scope>();
let openAsyncScopes = 0;
let current: Scope | null = null;

/** How many tensors may be left outside any scope before the event loop turns, until a warning says how to free them. */
const unscopedLimit = 200_000;
let unscopedSinceTurn = 0;
let turnIsAwaited = false;
let hasWarned = false;

/** A region that frees the tensors made in it. Made by {@link scope}. */
export class Scope {
  /** @internal */
  readonly tensors: TensorHandle[] = [];
  /** @internal */
  readonly parent: Scope | null;
  private open = true;
  /** The scope that was open here by the synchronous code, to go back to. `parent` may be one that follows an async task. */
  private readonly before: Scope | null;

  /** @internal */
  constructor(parent: Scope | null) {
    this.parent = parent;
    this.before = current;
  }

  /** Whether tensors still join this scope. */
  get isOpen(): boolean {
    return this.open;
  }

  /** Frees every tensor made in this scope that was not kept. Doing so twice is harmless. */
  close(): void {
    if (!this.open) return;
    this.open = false;
    if (current === this) current = openAncestor(this.before);
    const { tensors } = this;
    const handles = pool.values;
    let count = 0;
    for (let i = 0; i < tensors.length; i++) {
      const tensor = tensors[i]!;
      if (tensor.owner !== this || tensor.handle === 0) continue;
      if (count === handles.length) {
        native.releaseMany(count);
        count = 0;
      }
      handles[count++] = tensor.handle;
      tensor.handle = 0;
      tensor.owner = null;
    }
    if (count > 0) native.releaseMany(count);
    tensors.length = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openAncestor(scope: Scope | null): Scope | null {
  while (scope !== null && !scope.isOpen) scope = scope.parent;
  return scope;
}

function scopeHere(): Scope | null {
  if (current !== null) return current;
  if (openAsyncScopes === 0) return null;
  return openAncestor(asyncScopes.getStore() ?? null);
}

/** @internal Puts a new tensor under the scope that is open here, or under garbage collection. */
export function adopt(tensor: TensorHandle): void {
  const here = current ?? scopeHere();
  if (here === null) collectLater(tensor);
  else join(here, tensor);
}

/** @internal The scope that new tensors would join here; null outside any. */
export function openScope(): Scope | null {
  return current ?? scopeHere();
}

/** @internal Runs synchronous code whose new tensors join `home`, or the nearest scope around it that is still open. */
export function inScope<T>(home: Scope | null, body: () => T): T {
  const before = current;
  current = openAncestor(home);
  try {
    return body();
  } finally {
    current = before;
  }
}

function join(scope: Scope, tensor: TensorHandle): void {
  tensor.owner = scope;
  const { tensors } = scope;
  // Not push(), which is not compiled into the code that calls it.
  tensors[tensors.length] = tensor;
}

/** @internal Leaves a tensor to garbage collection. */
export function collectLater(tensor: TensorHandle): void {
  tensor.owner = null;
  collected.register(tensor, tensor.handle, tensor);
  native.track(tensor.handle);
  countUnscoped();
}

// Garbage collection frees tensors only when the event loop turns, which a long synchronous loop never lets it do.
function countUnscoped(): void {
  unscopedSinceTurn++;
  if (!turnIsAwaited) {
    turnIsAwaited = true;
    setImmediate(() => {
      turnIsAwaited = false;
      unscopedSinceTurn = 0;
    }).unref();
  }
  if (unscopedSinceTurn === unscopedLimit && !hasWarned) {
    hasWarned = true;
    process.emitWarning(
      `${String(unscopedLimit)} tensors were left outside any scope without a turn of the event loop, so none of them ` +
        'could be freed. Wrap the body of the loop in scope(() => { ... }).',
      { code: 'KONTRAST_UNSCOPED' },
    );
  }
}

/** @internal Frees one tensor now. */
export function release(tensor: TensorHandle): void {
  if (tensor.handle === 0) return;
  const { handle } = tensor;
  if (tensor.owner === null) {
    collected.unregister(tensor);
    unscopedSinceTurn--;
  }
  tensor.handle = 0;
  tensor.owner = null;
  native.release(handle);
}

/** Calls `visit` with each tensor in a structure of arrays, plain objects, maps and sets, circles included. */
function visitTensors(value: unknown, visit: (tensor: TensorHandle) => void, seen?: Set<object>): void {
  if (typeof value !== 'object' || value === null) return;
  if (value instanceof TensorHandle) {
    visit(value);
    return;
  }
  const isIterable = Array.isArray(value) || value instanceof Map || value instanceof Set;
  if (!isIterable) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return;
  }
  // Made here, since most results are a tensor and need none.
  seen ??= new Set();
  if (seen.has(value)) return;
  seen.add(value);
  const items = isIterable ? (value as Iterable<unknown>) : Object.values(value);
  for (const item of items) visitTensors(item, visit, seen);
}

function moveToParent(scope: Scope, value: unknown): void {
  const parent = openAncestor(scope.parent);
  visitTensors(value, (tensor) => {
    if (tensor.owner !== scope) return;
    if (parent === null) collectLater(tensor);
    else join(parent, tensor);
  });
}

/** Closes a scope, save for the tensors in its result. A getter in the result may throw: the scope is closed all the same. */
function closeAfter(scope: Scope, result: unknown): void {
  try {
    moveToParent(scope, result);
  } finally {
    scope.close();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

/**
 * Runs `body`, then frees every tensor that was made in it, save those in what it returns (a tensor, or arrays, plain
 * objects and maps of them, which join the outer scope) and those given to {@link keep}. Freeing a tensor never frees what autograd needs.
 *
 * `body` may be async: its scope follows it across each `await`, apart from other tasks that run meanwhile, and ends when its
 * promise settles.
 *
 * Without a callback, gives a scope to close by hand or by `using s = scope()`. That form is for synchronous code: it
 * covers what runs between it and its end, so there must be no `await` in between.
 */
export function scope(): Scope;
export function scope<T>(body: () => T): T;
export function scope<T>(body?: () => T): T | Scope {
  const opened = new Scope(scopeHere());
  const outer = current;
  if (body === undefined) {
    current = opened;
    return opened;
  }
  let result: T;
  try {
    result = asyncScopes.run(opened, () => {
      current = opened;
      return body();
    });
  } catch (error) {
    current = outer;
    opened.close();
    throw error;
  }
  current = outer;
  if (!isThenable(result)) {
    closeAfter(opened, result);
    return result;
  }
  openAsyncScopes++;
  return result.then(
    (value) => {
      openAsyncScopes--;
      closeAfter(opened, value);
      return value;
    },
    (error: unknown) => {
      openAsyncScopes--;
      opened.close();
      throw error;
    },
  ) as T;
}

/**
 * Takes tensors out of their scope: they live until `dispose()` or until garbage collection finds them unused.
 *
 * @param value - a tensor, or arrays, plain objects and maps of them
 * @returns the same value
 */
export function keep<T>(value: T): T {
  visitTensors(value, (tensor) => {
    if (tensor.handle === 0) throw new InvalidArgumentError('a disposed tensor cannot be kept');
    if (tensor.owner !== null) collectLater(tensor);
  });
  return value;
}

/** Frees tensors now: each a tensor, or arrays, plain objects and maps of them. Disposed ones are passed over. */
export function dispose(...values: unknown[]): void {
  visitTensors(values, release);
}
