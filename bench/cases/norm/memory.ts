/**
 * What a convolution and its batch norm keep for the backward pass, and take at most during both passes: ConvBN2d in mode `'tune'` beside the
 * two layers in training and in evaluation. Inputs, parameters and their gradients are not counted.
 *
 *     npx ts-node --transpile-only bench/cases/norm/memory.ts
 *
 * Exits with 3 when the goal is missed: 0.6 of what the two layers keep.
 */
import { Conv2d } from '../../../src/nn';
import { BatchNorm2d, ConvBN2d } from '../../../src/norm';
import { memory, resetPeakMemory, scope, torch, type Tensor } from '../../../src/torch';

const goal = 0.6;
const shapes = [
  { name: '[64, 64, 32, 32], 3 × 3', shape: [64, 64, 32, 32], kernelSize: 3, padding: 1 },
  { name: '[64, 64, 32, 32], 1 × 1', shape: [64, 64, 32, 32], kernelSize: 1, padding: 0 },
] as const;

interface Layer {
  forward(x: Tensor): Tensor;
}

/** Bytes that are alive after the forward pass, and at most during both. */
function bytesOf(layer: Layer, x: Tensor, gradient: Tensor): { kept: number; peak: number } {
  return scope(() => {
    resetPeakMemory();
    const before = memory().cpuBytes;
    const y = layer.forward(x);
    const kept = memory().cpuBytes - before;
    y.backward(gradient);
    const peak = memory().peakCpuBytes - before;
    x.grad = null;
    return { kept, peak };
  });
}

let isMissed = false;
for (const { name, shape, kernelSize, padding } of shapes) {
  const [x, gradient] = [torch.randn([...shape]).requiresGrad_(true), torch.randn([...shape])];
  const options = { inChannels: shape[1], outChannels: shape[1], kernelSize, padding, bias: false };
  const conv = new Conv2d(options);
  const bn = new BatchNorm2d({ features: shape[1] });
  const two: Layer = { forward: (x) => bn.forward(conv.forward(x)) };
  const found = {
    'conv, then BN in training': bytesOf(two, x, gradient),
    'conv, then BN in evaluation': (bn.eval(), bytesOf(two, x, gradient)),
    'ConvBN2d, tune': bytesOf(new ConvBN2d({ ...options, mode: 'tune' }), x, gradient),
  };
  console.log(name);
  const tuned = found['ConvBN2d, tune'];
  for (const [layer, { kept, peak }] of Object.entries(found)) {
    const share = tuned.kept / kept;
    isMissed ||= layer !== 'ConvBN2d, tune' && share > goal;
    console.log(
      `  ${layer.padEnd(28)} keeps ${(kept / 2 ** 20).toFixed(1)} MiB, peak ${(peak / 2 ** 20).toFixed(1)} MiB; ` +
        `tune keeps ${share.toFixed(2)} of it, peak ${(tuned.peak / peak).toFixed(2)}`,
    );
  }
}
process.exitCode = isMissed ? 3 : 0;
