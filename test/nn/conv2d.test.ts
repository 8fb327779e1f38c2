import assert from 'node:assert/strict';
import { manualSeed, torch } from '../../src/torch';
import { Conv2d } from '../../src/nn';
import { assertClose } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('Conv2d', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'conv2d', new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3 }));
    checkGoldenLayer(
      set,
      'conv2d_stride_padding',
      new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: [3, 5], stride: [2, 1], padding: [1, 2], bias: false }),
    );
    checkGoldenLayer(
      set,
      'conv2d_dilation_groups',
      new Conv2d({ inChannels: 4, outChannels: 6, kernelSize: 3, dilation: 2, groups: 2 }),
    );
    checkGoldenLayer(
      set,
      'conv2d_same',
      new Conv2d({ inChannels: 2, outChannels: 3, kernelSize: [3, 5], padding: 'same' }),
    );
  });

  it('gives the same in channels-last memory', () => {
    const layer = new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3 });
    layer.to({ memoryFormat: 'channels_last' });
    checkGoldenLayer(set, 'conv2d', layer);
    assert.ok(layer.weight.isContiguous('channels_last') && !layer.weight.isContiguous());
  });

  it('passes the finite-difference check', () => {
    const options = { inChannels: 2, outChannels: 2, kernelSize: 3, stride: 2, padding: 1 } as const;
    const layer = new Conv2d({ ...options, dtype: 'float64', device });
    const x = torch.randn([2, 2, 5, 4], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight, layer.bias!]);
  });

  it('starts with the values that PyTorch draws from the same seed', () => {
    const expected = golden('init').under('conv2d.');
    manualSeed(3);
    const layer = new Conv2d({ inChannels: 4, outChannels: 6, kernelSize: [3, 5], groups: 2 });
    assertClose(layer.weight, expected.get('weight')!, { atol: 0, rtol: 0 });
    assertClose(layer.bias!, expected.get('bias')!, { atol: 0, rtol: 0 });
  });

  it('refuses options that cannot work', () => {
    const make = (options: object) => () => new Conv2d({ inChannels: 4, outChannels: 6, kernelSize: 3, ...options });
    assert.throws(make({ groups: 4 }), /groups \(4\) must divide inChannels \(4\) and outChannels \(6\)/);
    assert.throws(make({ padding: 'same', stride: 2 }), /padding 'same' needs stride 1, found 2 x 2/);
    assert.throws(make({ kernelSize: 0 }), /kernelSize must be an integer of at least 1/);
    assert.throws(make({ padding: -1 }), /padding must be an integer of at least 0/);
  });
});
