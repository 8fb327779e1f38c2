/** Operators beside the event loop. */
import { callOperatorAsync } from './frame';
import type { TorchFunctions } from './functions.generated';
import { camelCase, unpackNames } from './names';
import { functionNames } from './names.generated';
import { native } from './native';

// A type that matches as many overloads as any operator has: TypeScript takes apart overloads only by such a pattern.
type Overloads<F> = F extends {
  (...args: infer A1): infer R1;
  (...args: infer A2): infer R2;
  (...args: infer A3): infer R3;
  (...args: infer A4): infer R4;
  (...args: infer A5): infer R5;
  (...args: infer A6): infer R6;
}
  ? {
      (...args: A1): Promise<R1>;
      (...args: A2): Promise<R2>;
      (...args: A3): Promise<R3>;
      (...args: A4): Promise<R4>;
      (...args: A5): Promise<R5>;
      (...args: A6): Promise<R6>;
    }
  : never;

/**
 * The functions of `torch`, each giving a promise: the operator runs on another thread with the grad mode and autocast of the call, and
 * the event loop stays free. Operators that are started one after another run one after another. Their tensors must not be changed in
 * place meanwhile; disposing of them is safe. Results join the scope in which the operator was started, if it is still open.
 */
export type AsyncFunctions = { readonly [Name in keyof TorchFunctions]: Overloads<TorchFunctions[Name]> };

/** @internal */
export function makeAsyncFunctions(): AsyncFunctions {
  const target: Record<string, unknown> = {};
  for (const name of unpackNames(functionNames)) {
    let index = -1;
    target[camelCase(name)] = (...given: unknown[]): Promise<unknown> => {
      if (index < 0) index = native.operator(`aten::${name}`);
      return callOperatorAsync(index, given);
    };
  }
  return target as unknown as AsyncFunctions;
}
