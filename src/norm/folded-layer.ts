import { Generator, noGrad, scope, torch, type Tensor } from '../torch';
import { Conv2d, Linear } from '../nn';
import type { BatchNorm } from './batch-norm';
import { WeightStandardizedConv2d } from './weight-standardized-conv2d';

/** A layer and the batch normalisation of what it gives. @internal */
export interface NormPair {
  layer: Conv2d | Linear;
  norm: BatchNorm;
}

/** The weight that a layer multiplies by: its own, or one made of it. @internal */
export function effectiveWeight(layer: Conv2d | Linear): Tensor {
  return layer instanceof WeightStandardizedConv2d ? layer.standardizedWeight() : layer.weight;
}

/** A new layer that does the work of both. @internal */
export function foldedLayer({ layer, norm }: NormPair): Conv2d | Linear {
  const { device, dtype } = layer.weight;
  // A generator of its own: the starting values are written over, and the default one must not move.
  const common = { bias: true, device, dtype, generator: new Generator({ seed: 0, device }) };
  let made: Conv2d | Linear;
  if (layer instanceof Linear)
    made = new Linear({ ...common, inFeatures: layer.inFeatures, outFeatures: layer.outFeatures });
  else {
    const { inChannels, outChannels, stride, padding, dilation, groups } = layer;
    const kernelSize = layer.weight.shape.slice(2) as [number, number];
    made = new Conv2d({ ...common, inChannels, outChannels, kernelSize, stride, padding, dilation, groups });
    const isChannelsLast = layer.weight.isContiguous('channels_last') && !layer.weight.isContiguous();
    if (isChannelsLast) made.to({ memoryFormat: 'channels_last' });
  }
  const { weight, bias } = foldedWeights({ layer, norm });
  noGrad(() => {
    made.weight.copy_(weight).dispose();
    made.bias!.copy_(bias).dispose();
  });
  weight.dispose();
  bias.dispose();
  made.train(layer.training).requiresGrad_(layer.weight.requiresGrad);
  return made;
}

/**
 * Weight and bias of the layer that does the work of a pair, worked out in float64: w s and β + s (b − μ), with s = γ / √(σ² + eps).
 */
function foldedWeights({ layer, norm }: NormPair): { weight: Tensor; bias: Tensor } {
  return noGrad(() =>
    scope(() => {
      const wide = (tensor: Tensor) => tensor.to({ dtype: 'float64' });
      const { runningMean, runningVar } = norm;
      let scale = wide(runningVar!).add(norm.eps).rsqrt();
      if (norm.weight !== null) scale = scale.mul(wide(norm.weight));
      const weight = wide(effectiveWeight(layer));
      const shift = layer.bias === null ? wide(runningMean!).neg() : wide(layer.bias).sub(wide(runningMean!));
      const bias = norm.bias === null ? shift.mul(scale) : torch.addcmul(wide(norm.bias), shift, scale);
      const { dtype } = layer.weight;
      const rows = scale.view(weight.shape.map((_, dimension) => (dimension === 0 ? -1 : 1)));
      return { weight: weight.mul(rows).to({ dtype }), bias: bias.to({ dtype }) };
    }),
  );
}
