import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { MaxPool2d } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('MaxPool2d', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'max_pool2d', new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }));
    checkGoldenLayer(
      set,
      'max_pool2d_dilation_ceil',
      new MaxPool2d({ kernelSize: 2, stride: 3, dilation: 2, ceilMode: true }),
    );
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([2, 2, 5, 6], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }).forward(input), [x]);
  });

  it('refuses padding of more than half a window', () => {
    assert.throws(
      () => new MaxPool2d({ kernelSize: 2, padding: 2 }),
      /MaxPool2d: padding \(2 x 2\) can be at most half/,
    );
  });
});
