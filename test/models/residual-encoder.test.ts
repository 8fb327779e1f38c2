import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Conv2d, Identity } from '../../src/nn';
import { ResidualEncoder } from '../../src/models';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { gradcheck } from '../../src/torch';

const options = { inChannels: 2, widths: [4, 6, 8], blocksPerStage: [1, 2, 1], stemStride: 2, stemKernelSize: 5 };

describe('ResidualEncoder', () => {
  const set = golden('residual_encoder');

  for (const memoryFormat of ['contiguous_format', 'channels_last'] as const) {
    it(`equals PyTorch, forward, backward and running statistics: ${memoryFormat}`, () => {
      const network = new ResidualEncoder(options).to({ dtype: 'float64', device, memoryFormat });
      network.loadStateDict(set.under('state.'));
      const x = set.tensors.input!.clone().requiresGrad_();
      const y = network.forward(x);
      y.backward(set.tensors.output_gradient!);
      const tolerance = { atol: 1e-10, rtol: 1e-8 };
      assertClose(y, set.tensors.output!, tolerance, 'output');
      assertClose(x.grad!, set.tensors.input_gradient!, tolerance, 'gradient of the input');
      for (const [name, gradient] of set.under('gradient.')) {
        assertClose(network.namedParameters().get(name)!.grad!, gradient, tolerance, `gradient of ${name}`);
      }
      for (const [name, buffer] of set.under('after.')) {
        assertClose(network.namedBuffers().get(name)!, buffer, tolerance, name);
      }
    });
  }

  it('passes the finite-difference check', () => {
    const network = new ResidualEncoder({ inChannels: 1, widths: [2, 3] }).to({ dtype: 'float64', device });
    const x = torch.randn([3, 1, 4, 4], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => network.forward(input), [x, network.conv1.weight], { probes: 30 });
  });

  it('averages fields of the image, whose mean is that of the whole', () => {
    const network = new ResidualEncoder({ inChannels: 1, widths: [3, 4], poolSize: 2 }).to({
      dtype: 'float64',
      device,
    });
    assert.equal(network.outputSize, 16);
    const whole = new ResidualEncoder({ inChannels: 1, widths: [3, 4] }).to({ dtype: 'float64', device });
    whole.loadStateDict(network.stateDict());
    const x = torch.randn([2, 1, 8, 8], { dtype: 'float64', device });
    const fields = network.eval().forward(x);
    assert.deepEqual(fields.shape, [2, 16]);
    assertClose(fields.view([2, 4, 4]).mean([2]), whole.eval().forward(x), { atol: 1e-12 }, 'mean of the fields');
    gradcheck((input) => network.forward(input), [x.requiresGrad_()], { probes: 20 });
    assert.throws(() => new ResidualEncoder({ poolSize: 0 }), /poolSize must be an integer of at least 1/);
  });

  it('refuses an image that its stages shrink to fewer pixels than fields', () => {
    const network = new ResidualEncoder({ inChannels: 1, widths: [2, 2], poolSize: 3 });
    assert.deepEqual(network.forward(torch.zeros([2, 1, 6, 5])).shape, [2, 18]);
    assert.throws(
      () => network.forward(torch.zeros([2, 1, 6, 4])),
      /poolSize 3 is more than the last image has, 3 × 2 for images of 6 × 4; use at most 2/,
    );
  });

  it('starts its convolutions Kaiming normal by fan-out', () => {
    const network = new ResidualEncoder({ inChannels: 64, widths: [64], norm: () => new Identity() });
    const weight = network.modules().find((part) => part instanceof Conv2d)!.weight;
    const values = numbers(weight);
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    assert.ok(Math.abs(deviation / Math.sqrt(2 / (64 * 9)) - 1) < 0.02);
  });

  it('refuses lists of different lengths and even windows', () => {
    assert.throws(
      () => new ResidualEncoder({ widths: [4, 8], strides: [1] }),
      /as many strides \(1\) and blocksPerStage \(2\) as widths \(2\)/,
    );
    assert.throws(() => new ResidualEncoder({ widths: [] }), /at least one/);
    assert.throws(() => new ResidualEncoder({ stemKernelSize: 4 }), /stemKernelSize must be odd, found 4/);
    assert.throws(() => new ResidualEncoder({ blocksPerStage: 0 }), /blocksPerStage must be an integer of at least 1/);
  });
});
