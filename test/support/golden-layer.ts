import type { Golden } from './golden';
import { assertClose } from './close';
import type { Module } from '../../src/nn';

/** Runs one case of the `layers` golden set, in float64, forward and backward. */
export function checkGoldenLayer(set: Golden<unknown>, name: string, layer: Module): void {
  layer.to({ dtype: 'float64', device: set.tensors[`${name}.input`]!.device });
  layer.loadStateDict(set.under(`${name}.state.`));
  const input = set.tensors[`${name}.input`]!.clone().requiresGrad_();
  const output = layer.forward(input);
  output.backward(set.tensors[`${name}.output_gradient`]!);
  const tolerance = { atol: 1e-12, rtol: 1e-10 };
  assertClose(output, set.tensors[`${name}.output`]!, tolerance, `${name}: output`);
  assertClose(input.grad!, set.tensors[`${name}.input_gradient`]!, tolerance, `${name}: gradient of the input`);
  for (const [parameter, gradient] of set.under(`${name}.gradient.`)) {
    const found = layer.namedParameters().get(parameter)!.grad!;
    assertClose(found, gradient, tolerance, `${name}: gradient of ${parameter}`);
  }
}
