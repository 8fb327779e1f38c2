import { noGrad, ops, scope, type Tensor } from '../torch';
import type { Parameter } from '../nn';
import { numberWithin } from '../nn/checks';

/** What {@link adaptiveGradientClipping} takes. */
export interface AdaptiveGradientClippingOptions {
  /** λ: the largest ratio of a unit's gradient to its weights, in norms. Default 0.01; larger batches need less. */
  clipping?: number;
  /** The least norm that weights count for, so that those at 0 can leave it. Default 1e-3. */
  eps?: number;
  /**
   * Which parameters to leave alone; the authors leave the last linear layer. `name` is that of the map of
   * `module.namedParameters()`, and empty for a plain list.
   */
  exclude?: (parameter: Parameter, name: string) => boolean;
}

/**
 * Scales the gradient of every unit that is large beside the unit's weights:
 *
 *     ∇ᵤ ← ∇ᵤ · min(1, λ max(‖Wᵤ‖, eps) / ‖∇ᵤ‖)
 *
 * with Euclidean norms. A unit u is one output: a row of a linear weight [out, in], a filter of a convolution
 * [out, in, ...kernel]. A parameter with at most one dimension larger than 1 (biases, gains, scalars) is one unit as a whole, as in the
 * authors' code. In place, without a wait for the device. Norms are taken in float32 for half precision. A unit whose gradient is
 * not finite becomes NaN; it is not hidden.
 *
 * Call it between `backward` and `optimizer.step()`. It lets networks without normalisation train with large batches; at a batch of
 * a few hundred it changes little.
 *
 * Brock, De, Smith and Simonyan 2021, High-Performance Large-Scale Image Recognition Without Normalization.
 *
 * @param parameters a list, or the map of `module.namedParameters()`; those without a gradient are skipped
 * @throws InvalidArgumentError for a negative `clipping` or `eps`
 */
export function adaptiveGradientClipping(
  parameters: Iterable<Parameter> | ReadonlyMap<string, Parameter>,
  options: AdaptiveGradientClippingOptions = {},
): void {
  const { clipping = 0.01, eps = 1e-3, exclude = () => false } = options;
  numberWithin(0, Infinity, clipping, 'adaptiveGradientClipping: clipping');
  numberWithin(0, Infinity, eps, 'adaptiveGradientClipping: eps');
  const named: Iterable<readonly [string, Parameter]> =
    parameters instanceof Map
      ? (parameters as ReadonlyMap<string, Parameter>)
      : [...(parameters as Iterable<Parameter>)].map((parameter) => ['', parameter] as const);
  noGrad(() => {
    scope(() => {
      const byDevice = new Map<string, { weights: Tensor[]; norms: Tensor[]; gradients: Tensor[] }>();
      for (const [name, parameter] of named) {
        const gradient = parameter.grad;
        if (gradient === null || gradient.numel() === 0 || exclude(parameter, name)) continue;
        let lists = byDevice.get(gradient.device);
        if (lists === undefined) byDevice.set(gradient.device, (lists = { weights: [], norms: [], gradients: [] }));
        lists.weights.push(unitNorms(parameter));
        lists.norms.push(unitNorms(gradient));
        lists.gradients.push(gradient);
      }
      for (const { weights, norms, gradients } of byDevice.values()) {
        // The factors take the place of the weights' norms. A gradient of 0 has a factor of 1, for any positive limit.
        ops.aten._foreach_clamp_min_.Scalar(weights, eps);
        ops.aten._foreach_mul_.Scalar(weights, clipping);
        ops.aten._foreach_clamp_min_.Scalar(norms, 1e-30);
        ops.aten._foreach_div_.List(weights, norms);
        ops.aten._foreach_clamp_max_.Scalar(weights, 1);
        ops.aten._foreach_mul_.List(gradients, weights);
      }
    });
  });
}

/** The norm of each unit, in a shape that multiplies the tensor. */
function unitNorms(tensor: Tensor): Tensor {
  const isHalf = tensor.dtype === 'float16' || tensor.dtype === 'bfloat16';
  const dtype = isHalf ? 'float32' : null;
  const isOneUnit = tensor.shape.filter((size) => size !== 1).length <= 1;
  if (isOneUnit) return tensor.linalgVectorNorm(2, null, { dtype });
  const dimensions = tensor.shape.map((_, dimension) => dimension).slice(1);
  return tensor.linalgVectorNorm(2, dimensions, { keepdim: true, dtype });
}
