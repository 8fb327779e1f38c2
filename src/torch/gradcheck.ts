/** Gradients compared with finite differences. */
import { grad, noGrad } from './autograd';
import { KontrastError, InvalidArgumentError } from './errors';
import { torch } from './functions';
import { Generator } from './random';
import { scope } from './scope';
import type { Tensor } from './tensor';

/** How exact a gradient must be, and how it is probed. */
export interface GradcheckOptions {
  /** The distance to each side, in the units of the inputs. Default 1e-6. */
  step?: number;
  /** The allowed error: `atol + rtol * |finite difference|`. Default 1e-6. */
  atol?: number;
  /** Default 1e-4. */
  rtol?: number;
  /** How many elements of each input are probed, spread evenly. Default: all, up to 200. */
  probes?: number;
}

/** A gradient that finite differences do not confirm. */
export class GradcheckError extends KontrastError {
  constructor(message: string) {
    super(message, { code: 'GRADCHECK' });
  }
}

type Outputs = Tensor | readonly Tensor[];

function listOf(outputs: Outputs): readonly Tensor[] {
  return Array.isArray(outputs) ? (outputs as readonly Tensor[]) : [outputs as Tensor];
}

function checkInputs(inputs: readonly Tensor[]): void {
  if (inputs.length === 0) throw new InvalidArgumentError('gradcheck needs at least one input');
  inputs.forEach((input, position) => {
    const name = `gradcheck: input ${String(position)}`;
    if (input.dtype !== 'float64') throw new InvalidArgumentError(`${name} must be float64, not ${input.dtype}`);
    if (!input.requiresGrad || !input.isLeaf) {
      throw new InvalidArgumentError(`${name} must be a leaf that requires gradients`);
    }
    if (!input.isContiguous()) throw new InvalidArgumentError(`${name} must be contiguous`);
  });
}

/** Fixed random weights in the shape of a tensor. */
function weightsLike(tensor: Tensor, seed: number): Tensor {
  const generator = new Generator({ seed });
  return torch.randn(tensor.shape, { dtype: 'float64', generator }).to({ device: tensor.device, dtype: tensor.dtype });
}

function weightedSum(outputs: readonly Tensor[], weights: readonly Tensor[]): Tensor {
  return outputs.map((output, i) => output.mul(weights[i]!).sum()).reduce((a, b) => a.add(b));
}

/**
 * Compares the gradient of Σ w · f(inputs), for fixed random weights w, with central finite differences
 * (f(x + step) − f(x − step)) / (2 step), element by element.
 *
 * @param f - deterministic; its outputs are float64 tensors
 * @param inputs - float64 leaves that require gradients; they are changed and put back
 * @throws GradcheckError naming the input and element where they differ
 * @throws InvalidArgumentError if the inputs are of another kind, or no output depends on them
 */
export function gradcheck(
  f: (...inputs: Tensor[]) => Outputs,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): void {
  const { step = 1e-6, atol = 1e-6, rtol = 1e-4, probes = 200 } = options;
  checkInputs(inputs);
  scope(() => {
    const outputs = listOf(f(...inputs)).filter((output) => output.requiresGrad);
    if (outputs.length === 0) throw new InvalidArgumentError('gradcheck: no output depends on an input');
    const weights = outputs.map((output, i) => weightsLike(output, 7 + i));
    const analytic = grad(weightedSum(outputs, weights), inputs, { allowUnused: true }).map(
      (gradient) => gradient?.dataSync() as Float64Array | undefined,
    );
    const value = (): number =>
      scope(() => {
        // Whether an output requires gradients is seen only where they are recorded.
        const made = listOf(f(...inputs)).filter((output) => output.requiresGrad);
        return noGrad(() => weightedSum(made, weights).itemSync());
      });
    inputs.forEach((input, position) => {
      // Probed through a flat alias of the same storage.
      const flat = input.detach().view([-1]);
      const size = flat.numel();
      const count = Math.min(size, probes);
      for (let probe = 0; probe < count; probe++) {
        const index = Math.floor((probe * size) / count);
        const element = flat.select(0, index);
        const at = element.itemSync();
        element.fill_(at + step);
        const above = value();
        element.fill_(at - step);
        const below = value();
        element.fill_(at);
        const numeric = (above - below) / (2 * step);
        const found = analytic[position]?.[index] ?? 0;
        if (!(Math.abs(found - numeric) <= atol + rtol * Math.abs(numeric))) {
          throw new GradcheckError(
            `the gradient of input ${String(position)} at ${String(index)} is ${String(found)}, finite differences give ${String(numeric)}`,
          );
        }
      }
    });
  });
}

/**
 * As {@link gradcheck}, for the gradient of the gradient: checks the function that maps the inputs to the gradients of
 * Σ w · f(inputs).
 */
export function gradgradcheck(
  f: (...inputs: Tensor[]) => Outputs,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): void {
  gradcheck(
    (...again) => {
      const outputs = listOf(f(...again)).filter((output) => output.requiresGrad);
      const weights = outputs.map((output, i) => weightsLike(output, 7 + i));
      return grad(weightedSum(outputs, weights), again, { createGraph: true, allowUnused: true }).filter(
        (gradient): gradient is Tensor => gradient !== null,
      );
    },
    inputs,
    options,
  );
}
