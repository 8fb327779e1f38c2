import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { AdaptiveAvgPool2d } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('AdaptiveAvgPool2d', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'adaptive_avg_pool2d', new AdaptiveAvgPool2d({ outputSize: [3, 2] }));
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([2, 2, 5, 6], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new AdaptiveAvgPool2d({ outputSize: [3, 2] }).forward(input), [x]);
  });

  it('is the mean of the image by default', () => {
    const x = torch.arange(8, { dtype: 'float32', device }).view([1, 2, 2, 2]);
    assert.deepEqual(new AdaptiveAvgPool2d().forward(x).toArraySync(), [[[[1.5]], [[5.5]]]]);
  });
});
