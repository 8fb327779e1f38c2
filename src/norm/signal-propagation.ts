import { InvalidArgumentError, Tensor, noGrad, ops, scope, torch, type Generator } from '../torch';
import type { AnyModule, Module } from '../nn';
import { inMode, withForward } from './observe-forward';

/** What one block does to the size of the signal. */
export interface SignalRow {
  /** The block's path in the model; `'input'` for what the first block is given. */
  name: string;
  /** 0 for the input of the first block, 1 for the output of the first block, and so on. */
  depth: number;
  /** The mean over channels of the squared mean over everything else. */
  squaredMean: number;
  /** The mean over channels of the biased variance over everything else. */
  variance: number;
  /** The same variance of what the residual branch gives, before it is scaled and added; null where there is no branch. */
  residualVariance: number | null;
}

/** How {@link signalPropagation} looks at a model. */
export interface SignalPropagationOptions {
  /** Which modules are blocks. Default: residual blocks, which have children `conv1` and `conv2`. */
  blocks?: (module: AnyModule, name: string) => boolean;
  /** The module of a block that the residual branch ends with. Default: the last child called `bn…`, or else `conv…`. */
  branchEnd?: (block: AnyModule) => AnyModule | null;
  /** Whether the model runs in training mode, where batch normalisation takes the batch's statistics. Default true. */
  training?: boolean;
}

/**
 * The size of the signal by depth: for each block that the input passes through, in the order of the calls, the average squared
 * channel mean, the average channel variance, and the average channel variance of the residual branch, all over the batch. In a
 * residual network with batch normalisation the variance grows with the blocks of a stage and falls back at the next; in a
 * norm-free one it should follow 1, 1 + α², 1 + 2 α² … as planned, with branches of variance 1 and small means. The rows are
 * plain objects, good for `console.table`.
 *
 * Nothing of the model changes: modes and buffers (running statistics) are put back, and no gradient is recorded.
 *
 * Use it before training a network whose norms were changed or taken out.
 *
 * Brock, De and Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets.
 *
 * @param input a batch [N, C, …], or the shape of one to draw from N(0, 1), by `generator` where given
 * @throws InvalidArgumentError if no block is called, or a block gives no tensor [N, C, …]
 */
export function signalPropagation(
  model: Module,
  input: Tensor | { shape: readonly number[]; generator?: Generator },
  options: SignalPropagationOptions = {},
): SignalRow[] {
  const { blocks = isResidualBlock, branchEnd = lastOfBranch, training = true } = options;
  const chosen = new Map<AnyModule, string>();
  for (const [name, module] of model.namedModules()) if (blocks(module, name)) chosen.set(module, name);
  const ends = new Map<AnyModule, AnyModule>();
  for (const block of chosen.keys()) {
    const end = branchEnd(block);
    if (end !== null) ends.set(end, block);
  }
  const rows: { name: string; signal: Moments; residual: Moments | null }[] = [];
  const residuals = new Map<AnyModule, Moments>();
  return noGrad(() =>
    scope(() => {
      const x = input instanceof Tensor ? input : randomInput(model, input);
      const buffers = [...model.namedBuffers().values()].map((buffer) => [buffer, buffer.clone()] as const);
      try {
        inMode(model, training, () =>
          withForward(
            new Set([...chosen.keys(), ...ends.keys()]),
            (module, inputs, compute) => {
              const name = chosen.get(module);
              if (name !== undefined && rows.length === 0) {
                rows.push({ name: 'input', signal: moments(inputs[0], name), residual: null });
              }
              const output = compute();
              const block = ends.get(module);
              // Measured at once: blocks go on to change activations in place.
              if (block !== undefined) residuals.set(block, moments(output, chosen.get(block)!));
              if (name !== undefined) {
                rows.push({ name, signal: moments(output, name), residual: residuals.get(module) ?? null });
              }
              return output;
            },
            () => model.forward(x),
          ),
        );
      } finally {
        for (const [buffer, before] of buffers) buffer.copy_(before);
      }
      if (rows.length === 0) {
        throw new InvalidArgumentError(
          `signalPropagation: the forward pass of this ${model.constructor.name} calls no block; say which modules are blocks ` +
            `by the option blocks`,
        );
      }
      return rows.map(({ name, signal, residual }, depth) => {
        const { squaredMean, variance } = signal;
        return { name, depth, squaredMean, variance, residualVariance: residual?.variance ?? null };
      });
    }),
  );
}

/** The norm of one weight's gradient. */
export interface GradientRow {
  /** The weight's path in the model. */
  name: string;
  /** Its place among the weights, from 0. */
  depth: number;
  /** ‖∂loss/∂W‖, the root of the sum of squares. */
  norm: number;
}

/**
 * The norms of the gradients of all weights (parameters of two or more dimensions) in the order of the model, as the last backward
 * pass left them; weights without a gradient are left out. Gradients that explode or vanish with depth show as rows that grow or
 * fall by a factor a layer. One wait for the device. The rows are plain objects, good for `console.table`.
 */
export function gradientNorms(model: AnyModule): GradientRow[] {
  const found = [...model.namedParameters()].flatMap(([name, { ndim, grad }]) =>
    ndim >= 2 && grad !== null ? [{ name, grad }] : [],
  );
  if (found.length === 0) return [];
  const norms = noGrad(() =>
    scope(() => {
      const each = ops.aten._foreach_norm.Scalar(found.map(({ grad }) => grad)) as Tensor[];
      return torch.stack(each.map((norm) => norm.to({ device: each[0]!.device, dtype: 'float64' }))).dataSync();
    }),
  ) as Float64Array;
  return found.map(({ name }, depth) => ({ name, depth, norm: norms[depth]! }));
}

/** A channel's squared mean and variance, averaged over the channels. */
interface Moments {
  squaredMean: number;
  variance: number;
}

function moments(x: unknown, name: string): Moments {
  if (!(x instanceof Tensor) || x.ndim < 2) {
    throw new InvalidArgumentError(`signalPropagation: block '${name}' does not work on one tensor [N, C, …]`);
  }
  return scope(() => {
    const dimensions = x.shape.map((_, dimension) => dimension).filter((dimension) => dimension !== 1);
    const [variance, mean] = torch.varMean(x.to({ dtype: 'float64' }), dimensions, { correction: 0 });
    return { squaredMean: mean.square().mean().itemSync(), variance: variance.mean().itemSync() };
  });
}

function randomInput(model: Module, { shape, generator }: { shape: readonly number[]; generator?: Generator }): Tensor {
  const [like] = model.parameters();
  const x = torch.randn(shape, { generator: generator ?? null });
  return like === undefined ? x : x.to({ device: like.device, dtype: like.dtype });
}

function isResidualBlock(module: AnyModule): boolean {
  const children = module.namedChildren();
  return children.has('conv1') && children.has('conv2');
}

function lastOfBranch(block: AnyModule): AnyModule | null {
  const children = [...block.namedChildren()];
  const last = (kind: RegExp) => children.filter(([name]) => kind.test(name)).at(-1)?.[1];
  return last(/^bn\d+$/) ?? last(/^conv\d+$/) ?? null;
}
