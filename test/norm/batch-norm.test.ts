import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { BatchNorm1d, BatchNorm2d, type BatchNorm } from '../../src/norm';
import { BatchNorm3d } from '../../src/norm/batch-norm3d';
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

  it('refuses a batch of one value a channel also in evaluation without running statistics', () => {
    const layer = new BatchNorm1d({ features: 3, trackRunningStats: false, device }).eval();
    assert.throws(
      () => layer.forward(torch.zeros([1, 3], { device })),
      /BatchNorm1d: evaluation without running statistics needs more than one value a channel/,
    );
  });

  it('has a scale without a shift on request', () => {
    const layer = new BatchNorm1d({ features: 2, bias: false, device });
    const names = ['weight', 'running_mean', 'running_var', 'num_batches_tracked'];
    assert.deepEqual([...layer.stateDict().keys()], names);
    layer.weight!.detach().fill_(2);
    const x = torch.randn([4, 2], { device });
    const plain = new BatchNorm1d({ features: 2, affine: false, device });
    assertClose(layer.forward(x), plain.forward(x).mul(2), { atol: 1e-5 });
    assert.equal(new BatchNorm1d({ features: 2, affine: false, bias: true }).bias, null);
  });

  it('refuses NaN and infinity on request before it counts the batch, and takes them otherwise', () => {
    const raising = new BatchNorm2d({ features: 2, nonFinite: 'raise', device });
    const cases: [number, RegExp][] = [
      [NaN, /BatchNorm2d: the input of shape \[2, 2, 3, 3\] holds NaN/],
      [Infinity, /holds infinity/],
      [-Infinity, /holds infinity/],
    ];
    for (const [value, message] of cases) {
      for (const dtype of ['float32', 'bfloat16', 'float64'] as const) {
        const x = torch.randn([2, 2, 3, 3], { device, dtype });
        x.select(0, 1).select(0, 0).select(0, 2).select(0, 1).fill_(value);
        assert.throws(() => raising.forward(x), message);
      }
    }
    assert.deepEqual(numbers(raising.numBatchesTracked!), [0]);
    assert.deepEqual(numbers(raising.runningVar!), [1, 1]);
    raising.forward(torch.randn([2, 2, 3, 3], { device }));
    const ignoring = new BatchNorm2d({ features: 2, device });
    ignoring.forward(torch.full([2, 2, 3, 3], NaN, { device }));
    assert.deepEqual(numbers(ignoring.runningMean!), [NaN, NaN]);
  });

  it('does not cancel where the mean is large, in the output and in the running statistics', () => {
    const x = torch.randn([5, 3, 7, 9], { dtype: 'float64', device }).mul(0.1);
    const near = new BatchNorm2d({ features: 3, eps: 0, momentum: 1, dtype: 'float64', device });
    const expected = near.forward(x);
    for (const shifted of [x.add(1e4), x.add(1e4).contiguous({ memoryFormat: 'channels_last' })]) {
      const far = new BatchNorm2d({ features: 3, eps: 0, momentum: 1, dtype: 'float64', device });
      assertClose(far.forward(shifted), expected, { atol: 1e-8, rtol: 1e-6 });
      assertClose(far.runningVar!, near.runningVar!, { atol: 0, rtol: 1e-9 });
      assertClose(far.runningMean!.sub(1e4), near.runningMean!, { atol: 1e-9 });
    }
  });

  it('resumes from its state bit for bit', () => {
    const options = { features: 2, momentum: null, device };
    const layer = new BatchNorm1d(options);
    layer.forward(torch.randn([4, 2], { device }));
    const resumed = new BatchNorm1d(options);
    resumed.loadStateDict(layer.stateDict());
    const x = torch.randn([4, 2], { device });
    assert.deepEqual(numbers(resumed.forward(x)), numbers(layer.forward(x)));
    for (const [name, value] of layer.stateDict())
      assert.deepEqual(numbers(resumed.stateDict().get(name)!), numbers(value));
  });
});

describe('BatchNorm3d', () => {
  it('is BatchNorm2d of the same values in another arrangement', () => {
    const [layer, flat] = [BatchNorm3d, BatchNorm2d].map(
      (kind) => new kind({ features: 3, dtype: 'float64', device }),
    ) as [BatchNorm3d, BatchNorm2d];
    const x = torch.randn([2, 3, 4, 5, 1], { dtype: 'float64', device });
    for (const mode of [true, false]) {
      layer.train(mode);
      flat.train(mode);
      assertClose(layer.forward(x), flat.forward(x.view([2, 3, 4, 5])).view(x.shape), { atol: 1e-12 });
      assertClose(layer.runningVar!, flat.runningVar!, { atol: 1e-12 });
    }
  });

  it('refuses other dimensions', () => {
    assert.throws(
      () => new BatchNorm3d({ features: 3 }).forward(torch.zeros([2, 3, 4, 4])),
      /BatchNorm3d: expected \[N, C, D, H, W\], found shape \[2, 3, 4, 4\]/,
    );
  });
});
