import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { AvgPool2d } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('AvgPool2d', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'avg_pool2d', new AvgPool2d({ kernelSize: [2, 3] }));
    checkGoldenLayer(
      set,
      'avg_pool2d_padding',
      new AvgPool2d({ kernelSize: 3, stride: 2, padding: 1, countIncludePad: false }),
    );
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([2, 2, 5, 6], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new AvgPool2d({ kernelSize: [2, 3] }).forward(input), [x]);
  });

  it('refuses padding of more than half a window', () => {
    assert.throws(
      () => new AvgPool2d({ kernelSize: 2, padding: 2 }),
      /AvgPool2d: padding \(2 x 2\) can be at most half/,
    );
  });
});
