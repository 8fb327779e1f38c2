import { grad, InvalidArgumentError, isTensor, noGrad, scope, enableGrad, type Hook, type Tensor } from '../torch';
import type { AnyModule, Module } from '../nn';
import { inMode, withForward } from './observe-forward';

/** What one module gives, and how strongly the loss depends on it. */
export interface DepthRow {
  /** 0 for the module that is called first, and so on. */
  depth: number;
  /** The dotted path. */
  name: string;
  /** The class. */
  kind: string;
  /** The shape of what it gives. */
  shape: string;
  /** The mean over all elements. */
  mean: number;
  /** The biased variance over all elements. */
  variance: number;
  /** The root of the sum of squares, divided by the root of the number of samples: of the size of one sample's activation. */
  norm: number;
  /** The norm of the loss's gradient by what the module gives; null without a loss, or where none flows. */
  gradientNorm: number | null;
  /** The norm of the loss's gradient by the module's own parameters (not its children's); null where it has none that are trained. */
  parameterGradientNorm: number | null;
}

/** How {@link probeDepth} looks at a model. */
export interface DepthProbeOptions {
  /** Makes the loss, a tensor without dimensions, of what the model gives. Without it, nothing is known of gradients. */
  loss?: (output: Tensor) => Tensor;
  /** Which modules, by module and dotted path. Default: those without children. */
  where?: (module: AnyModule, path: string) => boolean;
  /** Whether the model runs in training mode; default: each module in its own. */
  training?: boolean;
}

/**
 * Activations and gradients by depth: a row for each call of a module, in the order of the calls, with mean, variance and norm of what it
 * gives, and the norms of the loss's gradient by that and by the module's own parameters. The rows are plain objects, good for
 * `console.table`.
 *
 * ```ts
 * console.table(probeDepth(encoder, images, { loss: (embeddings) => infoNce.forward(embeddings, keys) }));
 * ```
 *
 * Activations and gradients that grow or shrink steadily with depth show a missing or misplaced norm, or a bad start. A module that is
 * called twice has two rows, and the gradient by its parameters, which is of all calls together, in each.
 *
 * Nothing of the model changes: modes, buffers (running statistics) and gradients are as before. Random numbers (dropout) are drawn, though.
 * All numbers are worked out in float64, with a wait for the device at each.
 *
 * @throws InvalidArgumentError if no module is called, or the loss is no single number
 */
export function probeDepth(model: AnyModule, input: Tensor, options: DepthProbeOptions = {}): DepthRow[] {
  const { loss, where = (module) => module.namedChildren().size === 0, training } = options;
  const chosen = new Map<AnyModule, string>();
  for (const [path, module] of model.namedModules()) if (where(module, path)) chosen.set(module, path);
  const rows: DepthRow[] = [];
  const modules: AnyModule[] = [];
  const hooks: Hook[] = [];
  const look = (module: AnyModule, output: unknown): void => {
    if (!isTensor(output)) return;
    const row = rowOf(rows.length, chosen.get(module)!, module, output);
    rows.push(row);
    modules.push(module);
    // At the time of the call: a module may write over its input, and so over what this one gave.
    if (loss !== undefined && output.requiresGrad) {
      hooks.push(output.registerHook((gradient) => void (row.gradientNorm = lengthOf([gradient]))));
    }
  };
  const run = (): void => {
    const pass = (): Tensor =>
      withForward(
        chosen.keys(),
        (module, _, compute) => {
          const output = compute();
          look(module, output);
          return output;
        },
        () => (model as unknown as Module).forward(input),
      );
    if (loss === undefined) {
      noGrad(() => scope(() => void pass()));
      return;
    }
    enableGrad(() =>
      scope(() => {
        const value = loss(pass());
        if (value.numel() !== 1) {
          throw new InvalidArgumentError(
            `probeDepth: the loss must be one number, found shape [${value.shape.join(', ')}]`,
          );
        }
        if (!value.requiresGrad) return;
        const trained = [...new Set(modules.flatMap(ownParameters))];
        // At least the input, so that the gradients by activations are worked out where no parameter is trained.
        const inputs = input.requiresGrad ? [...trained, input] : trained;
        if (inputs.length === 0) return;
        const gradients = grad(value, inputs, { allowUnused: true });
        const found = new Map(trained.map((parameter, index) => [parameter, gradients[index]]));
        rows.forEach((row, index) => {
          const own = ownParameters(modules[index]!).flatMap((parameter) => found.get(parameter) ?? []);
          if (own.length > 0) row.parameterGradientNorm = lengthOf(own);
        });
      }),
    );
  };
  const buffers = noGrad(() => [...model.namedBuffers().values()].map((buffer) => [buffer, buffer.clone()] as const));
  try {
    if (training === undefined) run();
    else inMode(model, training, run);
  } finally {
    for (const hook of hooks) hook.remove();
    noGrad(() => {
      for (const [buffer, copy] of buffers) {
        buffer.copy_(copy).dispose();
        copy.dispose();
      }
    });
  }
  if (rows.length === 0) {
    throw new InvalidArgumentError(`probeDepth: ${model.constructor.name} called no module that where lets through`);
  }
  return rows;
}

/** The trained parameters that are a module's own. */
function ownParameters(module: AnyModule): Tensor[] {
  return [...module.namedParameters()]
    .filter(([name, parameter]) => !name.includes('.') && parameter.requiresGrad)
    .map(([, parameter]) => parameter);
}

function rowOf(depth: number, name: string, module: AnyModule, output: Tensor): DepthRow {
  return noGrad(() =>
    scope(() => {
      const values = output.detach().to({ dtype: 'float64' });
      const samples = output.ndim === 0 ? 1 : Math.max(output.sizeOf(0), 1);
      return {
        depth,
        name,
        kind: module.constructor.name,
        shape: output.shape.join(' × '),
        mean: values.mean().itemSync(),
        variance: values.var({ correction: 0 }).itemSync(),
        norm: lengthOf([values]) / Math.sqrt(samples),
        gradientNorm: null,
        parameterGradientNorm: null,
      };
    }),
  );
}

/** The root of the sum of squares of all elements of all tensors. */
function lengthOf(tensors: readonly Tensor[]): number {
  return noGrad(() =>
    scope(() =>
      Math.sqrt(tensors.reduce((sum, tensor) => sum + tensor.to({ dtype: 'float64' }).square().sum().itemSync(), 0)),
    ),
  );
}
