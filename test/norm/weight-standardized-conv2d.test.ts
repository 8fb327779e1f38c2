import assert from 'node:assert/strict';
import { gradcheck, torch, type Tensor } from '../../src/torch';
import { Conv2d } from '../../src/nn';
import { WeightStandardizedConv2d } from '../../src/norm/weight-standardized-conv2d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const options = { inChannels: 4, outChannels: 6, kernelSize: [2, 3] as const, groups: 2, device, dtype } as const;

/** Each filter by plain numbers. */
function standardized(weight: Tensor, correction: number, eps: number): Tensor {
  const [out = 0, ...rest] = weight.shape;
  const size = rest.reduce((product, length) => product * length, 1);
  const values = numbers(weight);
  const result = Array.from({ length: out }, (_, row) => {
    const filter = values.slice(row * size, (row + 1) * size);
    const mean = filter.reduce((sum, value) => sum + value, 0) / size;
    const variance = filter.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (size - correction);
    return filter.map((value) => (value - mean) / Math.sqrt(variance + eps));
  });
  return torch.tensor(result.flat(), { dtype, device }).view(weight.shape);
}

describe('WeightStandardizedConv2d', () => {
  for (const correction of [0, 1] as const) {
    it(`convolves with standardised filters: correction ${correction}`, () => {
      const layer = new WeightStandardizedConv2d({ ...options, stride: 2, padding: 1, eps: 1e-2, correction });
      const weight = standardized(layer.weight, correction, 1e-2);
      assertClose(layer.standardizedWeight(), weight, { atol: 1e-12 }, 'weight');
      const x = torch.randn([3, 4, 7, 5], { dtype, device });
      assertClose(layer.forward(x), torch.conv2d(x, weight, layer.bias, [2, 2], [1, 1], [1, 1], 2), { atol: 1e-10 });
    });
  }

  it('has the defaults of the authors', () => {
    const layer = new WeightStandardizedConv2d(options);
    assertClose(layer.standardizedWeight(), standardized(layer.weight, 1, 1e-5), { atol: 1e-12 });
  });

  it('does not cancel for weights far from 0', () => {
    const layer = new WeightStandardizedConv2d(options);
    const small = layer.weight.detach().clone();
    layer.weight.detach().add_(1e4);
    // Adding 1e4 rounds the weights themselves by about 1e-12.
    assertClose(layer.standardizedWeight(), standardized(small, 1, 1e-5), { atol: 1e-9 });
  });

  it('passes the finite-difference check', () => {
    const layer = new WeightStandardizedConv2d(options);
    const x = torch.randn([2, 4, 3, 3], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight, layer.bias!]);
  });

  it('gives the same in channels-last memory and takes the state of a plain convolution', () => {
    const plain = new Conv2d(options);
    const [a, b] = [new WeightStandardizedConv2d(options), new WeightStandardizedConv2d(options)];
    for (const layer of [a, b]) layer.loadStateDict(plain.stateDict());
    b.to({ memoryFormat: 'channels_last' });
    const x = torch.randn([2, 4, 5, 5], { dtype, device });
    const y = b.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assertClose(y, a.forward(x), { atol: 1e-12 });
    assert.ok(y.isContiguous('channels_last'));
  });

  it('refuses filters of one weight', () => {
    assert.throws(
      () => new WeightStandardizedConv2d({ inChannels: 3, outChannels: 3, kernelSize: 1, groups: 3 }),
      /WeightStandardizedConv2d: a filter needs at least two weights .* found a weight of shape \[3, 1, 1, 1\]/,
    );
    assert.throws(() => new WeightStandardizedConv2d({ ...options, eps: -1 }), /eps must be a number of at least 0/);
  });
});
