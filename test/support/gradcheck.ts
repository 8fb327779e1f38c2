import assert from 'node:assert/strict';
import { grad, noGrad, scope, torch, Generator, type Tensor } from '../../src/torch';
import { numbers } from './close';

/** How exact a gradient must be, and how it is probed. */
export interface GradcheckOptions {
  /** The distance to each side. Default 1e-6. */
  step?: number;
  /** Default 1e-6. */
  atol?: number;
  /** Default 1e-4. */
  rtol?: number;
  /** How many elements of each input are probed, spread evenly. Default: all, up to 200. */
  probes?: number;
}

/**
 * Compares the gradient of Σ w · f(inputs), for fixed random weights w, with central finite differences. `f` must be
 * deterministic and all inputs float64 leaves that require gradients.
 */
export function gradcheck(f: (...inputs: Tensor[]) => Tensor, inputs: Tensor[], options: GradcheckOptions = {}): void {
  const { step = 1e-6, atol = 1e-6, rtol = 1e-4, probes = 200 } = options;
  scope(() => {
    inputs.forEach((input, position) => {
      assert.equal(input.dtype, 'float64', `gradcheck: input ${position} must be float64`);
      assert.ok(
        input.requiresGrad && input.isLeaf,
        `gradcheck: input ${position} must be a leaf that requires gradients`,
      );
    });
    const output = f(...inputs);
    const generator = new Generator({ seed: 7 });
    const weights = torch.randn(output.shape, { dtype: 'float64', generator }).to({ device: output.device });
    const analytic = grad(output, inputs, { gradOutputs: [weights] }).map((gradient) => numbers(gradient!));
    const value = (): number =>
      scope(() =>
        noGrad(() =>
          f(...inputs)
            .mul(weights)
            .sum()
            .itemSync(),
        ),
      );
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
        const found = analytic[position]![index]!;
        assert.ok(
          Math.abs(found - numeric) <= atol + rtol * Math.abs(numeric),
          `gradient of input ${position} at ${index}: ${found}, finite differences give ${numeric}`,
        );
      }
    });
  });
}
