import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { BatchNorm1d, BatchNorm2d, type BatchNorm } from '../../src/norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { gradcheck } from '../../src/torch';

describe('BatchNorm1d and BatchNorm2d', () => {
  const set = golden('batch_norm');
  const cases: Record<string, () => BatchNorm> = {
    '1d': () => new BatchNorm1d({ features: 4 }),
    '1d_sequence': () => new BatchNorm1d({ features: 3, eps: 1e-3, momentum: 0.3 }),
    '2d': () => new BatchNorm2d({ features: 3 }),
    '2d_cumulative': () => new BatchNorm2d({ features: 3, momentum: null }),
    '2d_no_affine': () => new BatchNorm2d({ features: 3, affine: false }),
    '2d_untracked': () => new BatchNorm2d({ features: 3, trackRunningStats: false }),
  };

  for (const [name, make] of Object.entries(cases)) {
    it(`equals PyTorch over three training batches and in evaluation: ${name}`, () => {
      const layer = make().to({ device, dtype: 'float64' });
      layer.loadStateDict(set.under(`${name}.state.`));
      for (const phase of ['train0', 'train1', 'train2', 'eval']) {
        const under = (part: string) => set.under(`${name}.${phase}.${part}`);
        const tensor = (part: string) => set.tensors[`${name}.${phase}.${part}`]!;
        layer.train(phase !== 'eval');
        layer.zeroGrad();
        const input = tensor('input').clone().requiresGrad_();
        const output = layer.forward(input);
        output.backward(tensor('output_gradient'));
        const tolerance = { atol: 1e-11, rtol: 1e-10 };
        assertClose(output, tensor('output'), tolerance, `${phase}: output`);
        assertClose(input.grad!, tensor('input_gradient'), tolerance, `${phase}: gradient of the input`);
        for (const [key, gradient] of under('gradient.')) {
          assertClose(layer.namedParameters().get(key)!.grad!, gradient, tolerance, `${phase}: gradient of ${key}`);
        }
        const buffers = layer.namedBuffers();
        assert.deepEqual([...buffers.keys()].sort(), [...under('buffer.').keys()].sort());
        for (const [key, buffer] of under('buffer.'))
          assertClose(buffers.get(key)!, buffer, tolerance, `${phase}: ${key}`);
      }
    });
  }

  it('passes the finite-difference check in training and in evaluation', () => {
    const layer = new BatchNorm2d({ features: 2, device, dtype: 'float64' });
    const x = torch.randn([3, 2, 2, 2], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    layer.eval();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
  });

  it('takes bfloat16 activations with float32 parameters', () => {
    const layer = new BatchNorm2d({ features: 2, device });
    const x = torch.randn([4, 2, 3, 3], { device });
    const y = layer.forward(x.to('bfloat16'));
    assert.equal(y.dtype, 'bfloat16');
    assert.equal(layer.runningMean!.dtype, 'float32');
    assertClose(y.to('float32'), new BatchNorm2d({ features: 2, device }).forward(x), { atol: 0.03, rtol: 0.02 });
  });

  it('refuses shapes that do not fit, and one value a channel, before it counts the batch', () => {
    const layer = new BatchNorm1d({ features: 3, device });
    assert.throws(
      () => layer.forward(torch.zeros([2, 3, 1, 1], { device })),
      /BatchNorm1d: expected \[N, C\] or \[N, C, L\], found shape \[2, 3, 1, 1\]/,
    );
    assert.throws(
      () => layer.forward(torch.zeros([2, 4], { device })),
      /expected 3 channels, found an input of shape \[2, 4\]/,
    );
    assert.throws(
      () => layer.forward(torch.zeros([1, 3], { device })),
      /more than one value a channel, but the batch has shape \[1, 3\]/,
    );
    assert.throws(
      () => new BatchNorm2d({ features: 3 }).forward(torch.zeros([2, 3])),
      /BatchNorm2d: expected \[N, C, H, W\]/,
    );
    assert.deepEqual(numbers(layer.numBatchesTracked!), [0]);
    assert.deepEqual(layer.eval().forward(torch.zeros([1, 3], { device })).shape, [1, 3]);
  });
});
