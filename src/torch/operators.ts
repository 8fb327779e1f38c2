/** Every operator that LibTorch registers, by its own name. */
import { callOperator } from './frame';
import { native } from './native';
import type { Tensor } from './tensor';

/** What an operator may return: nothing, tensors, numbers, lists or several of these. */
export type OperatorResult = Tensor | number | bigint | boolean | null | undefined | readonly OperatorResult[];

/** One operator: called, LibTorch's overload is chosen by the arguments; a member is one overload. */
export interface RawOperator {
  (...args: unknown[]): unknown;
  /** One overload, as in `ops.aten.log_softmax.int`; `default` is the overload without a name. */
  readonly [overload: string]: (...args: unknown[]) => unknown;
}

/** The operators of one namespace. */
export type OperatorNamespace = Readonly<Record<string, RawOperator>>;

function makeCallable(name: string): (...args: unknown[]) => unknown {
  let index = -1;
  return (...args) => {
    if (index < 0) index = native.operator(name);
    return callOperator(index, undefined, args);
  };
}

/** An object whose members are made when they are first asked for. */
function lazy<T extends object>(target: T, make: (name: string) => unknown): T {
  const made = new Map<string, unknown>();
  return new Proxy(target, {
    get(object, name, receiver) {
      if (typeof name !== 'string' || name in object) return Reflect.get(object, name, receiver) as unknown;
      if (!made.has(name)) made.set(name, make(name));
      return made.get(name);
    },
  });
}

/**
 * The raw operator table: `ops.aten._fused_adamw_(...)`, `ops.aten.log_softmax.int(x, 1)`. Names and argument names are
 * LibTorch's; a last plain object holds keyword arguments, in camelCase or snake_case. Results are untyped.
 *
 * @throws TorchError with code `NO_OPERATOR` when LibTorch has no such operator, once it is called
 */
export const ops: Readonly<Record<string, OperatorNamespace>> = lazy({}, (namespace) =>
  lazy({}, (name) =>
    lazy(makeCallable(`${namespace}::${name}`), (overload) =>
      makeCallable(`${namespace}::${name}.${overload === 'default' ? '' : overload}`),
    ),
  ),
);

/** Whether LibTorch registers an operator of this name, such as `aten::add`. */
export function hasOperator(name: string): boolean {
  return native.hasOperator(name);
}

/** The schema of every registered operator, sorted. */
export function operatorSchemas(): string[] {
  return native.schemas();
}
