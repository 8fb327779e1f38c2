import assert from 'node:assert/strict';
import { gradcheck, memory, noGrad, torch, type Tensor } from '../../src/torch';
import { Conv2d } from '../../src/nn';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { ConvBN2d, type ConvBN2dOptions } from '../../src/norm/conv-bn2d';
import { WeightStandardizedConv2d } from '../../src/norm/weight-standardized-conv2d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const options: ConvBN2dOptions = {
  inChannels: 4,
  outChannels: 6,
  kernelSize: 3,
  stride: 2,
  padding: 1,
  groups: 2,
  device,
  dtype,
};
const images = () => torch.randn([3, 4, 7, 5], { dtype, device });

/** Gives everything values other than its starting ones. */
function randomized<B extends ConvBN2d>(block: B): B {
  noGrad(() => {
    for (const parameter of block.parameters()) parameter.copy_(torch.randn(parameter.shape, { dtype, device }));
    block.bn!.runningMean!.copy_(torch.randn([block.bn!.features], { dtype, device }));
    block.bn!.runningVar!.copy_(torch.rand([block.bn!.features], { dtype, device }).add(0.5));
  });
  return block;
}

/** The output and all gradients of one pass. */
function pass(block: ConvBN2d, x: Tensor, weights: Tensor): Map<string, Tensor> {
  block.zeroGrad();
  const input = x.detach().clone().requiresGrad_();
  const y = block.forward(input);
  y.mul(weights).sum().backward();
  const gradients = [...block.namedParameters()].map(([name, { grad }]) => [name, grad!.clone()] as const);
  return new Map([['output', y.detach()], ['input', input.grad!], ...gradients]);
}

describe('ConvBN2d', () => {
  it('is the convolution and then the norm in train mode', () => {
    const block = randomized(new ConvBN2d(options));
    const conv = new Conv2d({ ...options, bias: false });
    const bn = new BatchNorm2d({ features: 6, device, dtype });
    conv.loadStateDict({ weight: block.conv.weight });
    bn.loadStateDict(block.bn!.stateDict());
    const x = images();
    assert.equal(block.mode, 'train');
    assertClose(block.forward(x), bn.forward(conv.forward(x)), { atol: 0 });
    assertClose(block.bn!.runningVar!, bn.runningVar!, { atol: 0 });
    assertClose(block.eval().forward(x), bn.eval().forward(conv.forward(x)), { atol: 1e-12 });
  });

  for (const [name, change] of Object.entries<Partial<ConvBN2dOptions>>({ plain: {}, biased: { bias: true } })) {
    it(`tunes with the outputs and gradients of eval mode: ${name}`, () => {
      const block = randomized(new ConvBN2d({ ...options, ...change }));
      const before = block.bn!.stateDict();
      const statistics = numbers(before.get('running_mean')!);
      const x = images();
      const weights = torch.randn([3, 6, 4, 3], { dtype, device });
      const expected = pass(block.setMode('eval'), x, weights);
      const tuned = pass(block.setMode('tune'), x, weights);
      assert.equal(block.mode, 'tune');
      for (const [part, value] of expected) assertClose(tuned.get(part)!, value, { atol: 1e-10, rtol: 0 }, part);
      assert.deepEqual(numbers(block.bn!.runningMean!), statistics);
      assert.deepEqual(numbers(block.bn!.numBatchesTracked!), [0]);
      // Evaluation mode is the same function, whatever training does.
      assert.equal(block.eval().mode, 'eval');
      assertClose(block.forward(x), tuned.get('output')!, { atol: 1e-10 });
    });
  }

  it('tunes without affine parameters, and with standardised weights', () => {
    const bn = new BatchNorm2d({ features: 6, affine: false, device, dtype });
    const conv = new WeightStandardizedConv2d(options as ConvBN2dOptions & { inChannels: number });
    const block = randomized(new ConvBN2d({ conv, bn, mode: 'eval' }));
    const x = images();
    const weights = torch.randn([3, 6, 4, 3], { dtype, device });
    const expected = pass(block, x, weights);
    const tuned = pass(block.setMode('tune'), x, weights);
    for (const [part, value] of expected) assertClose(tuned.get(part)!, value, { atol: 1e-10 }, part);
    assertClose(block.setMode('deploy').forward(x), expected.get('output')!, { atol: 1e-10 }, 'deployed');
  });

  it('passes the finite-difference check in tune mode', () => {
    const block = randomized(new ConvBN2d({ ...options, bias: true, mode: 'tune' }));
    gradcheck((input) => block.forward(input), [images().requiresGrad_(), ...block.parameters()], { probes: 60 });
  });

  it('deploys as one convolution, for good', () => {
    const block = randomized(new ConvBN2d({ ...options, padding: 'valid', stride: 1, dilation: 2 }));
    const x = images();
    const expected = block.eval().forward(x);
    assert.equal(block.setMode('deploy').mode, 'deploy');
    assertClose(block.forward(x), expected, { atol: 1e-10 });
    assertClose(block.train().forward(x), expected, { atol: 1e-10 });
    assert.deepEqual([...block.stateDict().keys()], ['conv.weight', 'conv.bias']);
    assert.equal(block.setMode('deploy').mode, 'deploy');
    assert.throws(() => block.setMode('tune'), /deployed, its norm is gone; it has no mode 'tune'/);
  });

  it('keeps at most 0.6 of what the two layers keep', function () {
    if (device !== 'cpu') this.skip();
    const block = new ConvBN2d({ inChannels: 16, outChannels: 16, kernelSize: 3, padding: 1 });
    const x = torch.randn([8, 16, 32, 32]).requiresGrad_();
    const kept = (mode: 'eval' | 'tune') => {
      block.setMode(mode);
      const before = memory().cpuBytes;
      const y = block.forward(x);
      const bytes = memory().cpuBytes - before;
      y.dispose();
      return bytes;
    };
    kept('eval');
    const [two, one] = [kept('eval'), kept('tune')];
    assert.ok(one > 0 && one <= 0.6 * two, `${one} of ${two} bytes`);
  });

  it('goes on from its state bit for bit', () => {
    const block = randomized(new ConvBN2d({ ...options, mode: 'tune' }));
    const copy = new ConvBN2d({ ...options, mode: 'tune' });
    copy.loadStateDict(block.stateDict());
    const x = images();
    assertClose(copy.forward(x), block.forward(x), { atol: 0, rtol: 0 });
  });

  it('works in bfloat16 and in channels-last memory', () => {
    const block = new ConvBN2d({ ...options, dtype: 'float32', mode: 'tune' });
    const x = images().to({ dtype: 'float32' });
    const expected = block.forward(x);
    block.to({ memoryFormat: 'channels_last' });
    assertClose(block.forward(x.contiguous({ memoryFormat: 'channels_last' })), expected, { atol: 1e-5 });
    assert.equal(block.to('bfloat16').forward(x.to({ dtype: 'bfloat16' })).dtype, 'bfloat16');
  });

  it('refuses parts that do not fit', () => {
    const conv = new Conv2d({ inChannels: 2, outChannels: 3, kernelSize: 1 });
    assert.throws(
      () => new ConvBN2d({ conv, bn: new BatchNorm2d({ features: 4 }) }),
      /the norm has 4 features, but the convolution gives 3 channels/,
    );
    assert.throws(
      () => new ConvBN2d({ conv, bn: new BatchNorm2d({ features: 3, trackRunningStats: false }) }),
      /keeps no running statistics/,
    );
    assert.throws(
      () => new ConvBN2d({ ...options, mode: 'fast' as 'tune' }),
      /mode must be train, eval, tune or deploy/,
    );
  });
});
