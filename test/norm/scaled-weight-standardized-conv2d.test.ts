import assert from 'node:assert/strict';
import { Generator, gradcheck, noGrad, torch } from '../../src/torch';
import { ScaledWeightStandardizedConv2d } from '../../src/norm/scaled-weight-standardized-conv2d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const options = { inChannels: 2, outChannels: 3, kernelSize: 2, device, dtype } as const;

describe('ScaledWeightStandardizedConv2d', () => {
  it('scales its filters by γ g / √max(n σ², eps)', () => {
    const layer = new ScaledWeightStandardizedConv2d({ ...options, gamma: 1.5, eps: 0.05 });
    noGrad(() => {
      layer.gain.copy_(torch.tensor([1, 2, -3]));
      // The second filter's n σ² lies below eps.
      layer.weight.select(0, 1).mul_(1e-3);
    });
    const values = numbers(layer.weight);
    const expected = [1, 2, -3].flatMap((gain, row) => {
      const filter = values.slice(row * 8, row * 8 + 8);
      const mean = filter.reduce((sum, value) => sum + value, 0) / 8;
      const squares = filter.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      return filter.map((value) => (1.5 * gain * (value - mean)) / Math.sqrt(Math.max(squares, 0.05)));
    });
    assertClose(layer.standardizedWeight().flatten(), torch.tensor(expected, { dtype }), { atol: 1e-12 });
    const x = torch.randn([2, 2, 4, 3], { dtype, device });
    assertClose(layer.forward(x), torch.conv2d(x, layer.standardizedWeight(), layer.bias), { atol: 1e-12 });
  });

  it('keeps unit variance at the start, behind an activation too', () => {
    const generator = new Generator({ seed: 3 });
    const gamma = Math.SQRT2 / Math.sqrt(1 - 1 / Math.PI);
    const layer = new ScaledWeightStandardizedConv2d({
      inChannels: 64,
      outChannels: 64,
      kernelSize: 3,
      gamma,
      generator,
    });
    const y = layer.forward(torch.randn([8, 64, 12, 12], { generator }).relu());
    const [variance, mean] = torch.varMean(y, [0, 2, 3]);
    assert.ok(Math.abs(variance.mean().itemSync() - 1) < 0.05);
    assert.ok(mean.square().mean().itemSync() < 0.01);
    assert.deepEqual(new Set(numbers(layer.bias!)), new Set([0]));
  });

  it('has bias and gain as state, and the generator decides the start', () => {
    const make = () =>
      new ScaledWeightStandardizedConv2d({ ...options, generator: new Generator({ seed: 1, device }) });
    assert.deepEqual([...make().stateDict().keys()].sort(), ['bias', 'gain', 'weight']);
    assertClose(make().weight, make().weight, { atol: 0 });
  });

  it('passes the finite-difference check', () => {
    const layer = new ScaledWeightStandardizedConv2d({ ...options, gamma: 1.3 });
    const x = torch.randn([2, 2, 3, 3], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight, layer.gain, layer.bias!]);
  });
});
