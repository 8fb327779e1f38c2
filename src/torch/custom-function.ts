/** Differentiable functions written in TypeScript. */
import { inspect } from 'node:util';
import { DisposedError, InvalidArgumentError } from './errors';
import { wrap } from './frame';
import { TensorHandle } from './handle';
import { native } from './native';
import { scope } from './scope';
import type { Tensor } from './tensor';

/** What the two passes of a custom function share. */
export class FunctionContext<State = undefined> {
  /** Whatever `forward` wants to hand to `backward` besides tensors. Tensors belong into {@link FunctionContext.save}. */
  state!: State;
  /** For each argument of `forward`, whether it is a tensor that gradients flow to. */
  readonly needsGradient: readonly boolean[];
  /** @internal */
  readonly lists = { saved: [] as Tensor[], dirty: [] as Tensor[], constant: [] as Tensor[] };
  private restored: readonly Tensor[] | undefined;

  /** @internal */
  constructor(needsGradient: readonly boolean[]) {
    this.needsGradient = needsGradient;
  }

  /** Keeps inputs, outputs or other tensors for `backward`. Changing one in place afterwards makes the backward pass an error. */
  save(...tensors: Tensor[]): void {
    this.lists.saved.push(...tensors);
  }

  /** In `backward`: the tensors that `forward` saved, in order. */
  get saved(): readonly Tensor[] {
    if (this.restored === undefined) throw new InvalidArgumentError('saved tensors are there only during backward');
    return this.restored;
  }

  /** Says which inputs `forward` changes in place; they must be among its outputs. */
  markDirty(...inputs: Tensor[]): void {
    this.lists.dirty.push(...inputs);
  }

  /** Says through which outputs no gradient flows. */
  markNonDifferentiable(...outputs: Tensor[]): void {
    this.lists.constant.push(...outputs);
  }

  /** @internal Runs the backward pass with the saved tensors at hand. */
  restore<T>(saved: readonly Tensor[], body: () => T): T {
    this.restored = saved;
    try {
      return body();
    } finally {
      this.restored = undefined;
    }
  }
}

/** What {@link defineFunction} is made from. */
export interface FunctionDefinition<Args extends readonly unknown[], Output extends Tensor | readonly Tensor[], State> {
  /** A name for error messages, and with `Backward` behind it for {@link Tensor.gradFn}. */
  name: string;
  /** Works out the outputs. Nothing in it is recorded, and what it makes besides outputs and saved tensors is freed. */
  forward(context: FunctionContext<State>, ...args: Args): Output;
  /**
   * The gradient of each argument of `forward`, given that of each output: null or nothing for arguments that have none. Made of
   * differentiable operators, it can itself be differentiated. Its tensors are freed when it has returned.
   */
  backward(
    context: FunctionContext<State>,
    ...gradients: Tensor[]
  ): Tensor | null | readonly (Tensor | null | undefined)[];
}

function isTensor(value: unknown): value is Tensor {
  return value instanceof TensorHandle;
}

function handleOf(tensor: unknown, what: string): number {
  if (!isTensor(tensor))
    throw new InvalidArgumentError(`${what} must be a tensor, not ${inspect(tensor, { depth: 0 })}`);
  if (tensor.handle === 0) throw new DisposedError(`${what} was disposed`);
  return tensor.handle;
}

/**
 * A function with a backward pass of its own, which autograd calls wherever the function was used, on the CPU and on CUDA.
 *
 * ```ts
 * const cube = defineFunction({
 *   name: 'cube',
 *   forward(context, x: Tensor) {
 *     context.save(x);
 *     return x.pow(3);
 *   },
 *   backward(context, gradient) {
 *     return gradient.mul(context.saved[0].square()).mul(3);
 *   },
 * });
 * ```
 *
 * Check one with {@link gradcheck}.
 *
 * @returns the function; it throws what `forward` throws, and a backward pass throws what `backward` throws
 */
export function defineFunction<
  Args extends readonly unknown[],
  Output extends Tensor | readonly Tensor[],
  State = undefined,
>(definition: FunctionDefinition<Args, Output, State>): (...args: Args) => Output {
  const { name } = definition;
  return (...args) => {
    const positions = args.flatMap((argument, i) => (isTensor(argument) ? [i] : []));
    const inputs = positions.map((i) => args[i] as Tensor);
    const context = new FunctionContext<State>(args.map((argument) => isTensor(argument) && argument.requiresGrad));
    let isList = false;

    const forward = (): { outputs: number[]; saved: number[]; dirty: number[]; constant: number[] } => {
      const made = definition.forward(context, ...args);
      isList = Array.isArray(made);
      const handles = (tensors: readonly Tensor[], what: string): number[] =>
        tensors.map((tensor) => handleOf(tensor, `${name}: ${what}`));
      const { saved, dirty, constant } = context.lists;
      const form = {
        outputs: handles(isList ? (made as readonly Tensor[]) : [made as Tensor], 'an output of forward'),
        saved: handles(saved, 'a saved tensor'),
        dirty: handles(dirty, 'a tensor marked dirty'),
        constant: handles(constant, 'a tensor marked non-differentiable'),
      };
      // The graph holds what was saved from here on; a context that held it as well would keep the graph alive by a circle.
      saved.length = dirty.length = constant.length = 0;
      return form;
    };

    const backward = (gradients: number[], saved: number[]): void => {
      scope(() => {
        const tensors = saved.map((handle) => wrap(handle) as Tensor);
        const given = gradients.map((handle) => wrap(handle) as Tensor);
        const made = context.restore(tensors, () => definition.backward(context, ...given));
        const list = Array.isArray(made) ? (made as readonly (Tensor | null | undefined)[]) : [made as Tensor | null];
        if (list.length > args.length) {
          throw new InvalidArgumentError(
            `${name}: backward gave ${String(list.length)} gradients for ${String(args.length)} arguments`,
          );
        }
        list.forEach((gradient, i) => {
          if (gradient !== null && gradient !== undefined && !positions.includes(i)) {
            throw new InvalidArgumentError(
              `${name}: backward gave a gradient for argument ${String(i)}, which is no tensor`,
            );
          }
        });
        native.give(
          positions.map((i) => {
            const gradient = list[i];
            return gradient === null || gradient === undefined
              ? 0
              : handleOf(gradient, `${name}: gradient ${String(i)}`);
          }),
        );
      });
    };

    const handles = scope(() =>
      native.callFunction(
        name,
        inputs.map((input) => handleOf(input, `${name}: an argument`)),
        forward,
        backward,
      ),
    );
    const outputs = handles.map((handle) => wrap(handle) as Tensor);
    return (isList ? outputs : outputs[0]) as Output;
  };
}
