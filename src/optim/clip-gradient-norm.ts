import { InvalidArgumentError, noGrad, ops, scope, torch, type Tensor } from '../torch';
import type { Parameter } from '../nn';
import { numberWithin } from '../nn/checks';

/**
 * Scales all gradients by one factor so that their norm, taken over all of them together, is at most `maxNorm`:
 * ∇ ← ∇ · min(1, maxNorm / (‖∇‖ₚ + 1e-6)).
 *
 * @param parameters those without a gradient are skipped
 * @param maxNorm the largest norm allowed
 * @param options `normType` p (default 2); `errorIfNonfinite` (default false) whether an infinite or NaN norm is an error,
 * which costs a wait for the device
 * @returns the norm before clipping, a tensor of no dimensions (0 if there are no gradients)
 * @throws InvalidArgumentError for a non-finite norm, if asked for, before anything changes
 */
export function clipGradientNorm(
  parameters: Iterable<Parameter>,
  maxNorm: number,
  options: { normType?: number; errorIfNonfinite?: boolean } = {},
): Tensor {
  const { normType = 2, errorIfNonfinite = false } = options;
  numberWithin(0, Infinity, maxNorm, 'clipGradientNorm: maxNorm');
  return noGrad(() =>
    scope(() => {
      const gradients = [...parameters].map((parameter) => parameter.grad).filter((gradient) => gradient !== null);
      const [first] = gradients;
      if (first === undefined) return torch.zeros([]);
      const norms = ops.aten._foreach_norm.Scalar(gradients, normType) as Tensor[];
      const total = torch.stack(norms.map((norm) => norm.to({ device: first.device }))).linalgVectorNorm(normType);
      if (errorIfNonfinite && !Number.isFinite(total.itemSync())) {
        throw new InvalidArgumentError(`the norm of the gradients is ${total.itemSync()}, so they cannot be clipped`);
      }
      const factor = total.add(1e-6).reciprocal().mul(maxNorm).clampMax(1);
      const byDevice = new Map<string, Tensor[]>();
      for (const gradient of gradients) {
        const list = byDevice.get(gradient.device);
        if (list === undefined) byDevice.set(gradient.device, [gradient]);
        else list.push(gradient);
      }
      for (const list of byDevice.values()) {
        ops.aten._foreach_mul_.Tensor(list, factor.to({ device: list[0]!.device }));
      }
      return total;
    }),
  );
}
