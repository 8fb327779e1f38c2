import assert from 'node:assert/strict';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { CrossMiniBatchNorm } from '../../src/norm/cross-mini-batch-norm';
import { gradcheck, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { channelValues, meanOf, varianceOf } from './channel-values';

const dtype = 'float64';
const images = (scale = 2): Tensor => torch.randn([3, 2, 2, 3], { dtype, device }).mul(scale).add(1);
const make = (options: Partial<ConstructorParameters<typeof CrossMiniBatchNorm>[0]> = {}): CrossMiniBatchNorm =>
  new CrossMiniBatchNorm({ features: 2, microBatches: 3, device, dtype, ...options });

describe('CrossMiniBatchNorm', () => {
  it('takes statistics over the micro-batches of a step so far, in a loop over plain numbers', () => {
    const layer = make({ momentum: 0.2 });
    let [means, variances] = [[0, 0], [1, 1]]; // prettier-ignore
    let seen: number[][] = [[], []];
    for (let batch = 0; batch < 7; batch++) {
      if (batch % 3 === 0) seen = [[], []];
      const x = images();
      const channels = channelValues(x);
      seen = seen.map((values, c) => [...values, ...channels[c]!]);
      const expected = channels.map((values, c) =>
        values.map((value) => (value - meanOf(seen[c]!)) / Math.sqrt(varianceOf(seen[c]!) + 1e-5)),
      );
      assertClose(
        torch.tensor(channelValues(layer.forward(x)), { dtype }),
        torch.tensor(expected, { dtype }),
        { atol: 1e-10 },
        `${batch}`,
      );
      const count = seen[0]!.length;
      means = means.map((old, c) => 0.8 * old + 0.2 * meanOf(seen[c]!));
      variances = variances.map((old, c) => 0.8 * old + (0.2 * varianceOf(seen[c]!) * count) / (count - 1));
      assertClose(layer.runningMean!, torch.tensor(means, { dtype }), { atol: 1e-10 });
      assertClose(layer.runningVar!, torch.tensor(variances, { dtype }), { atol: 1e-10 });
    }
    assert.deepEqual(numbers(layer.microBatch), [1]);
    layer.restart();
    assert.deepEqual(numbers(layer.microBatch), [0]);
  });

  it('lets gradients flow through the share of the current micro-batch', () => {
    const layer = make({ momentum: 0 });
    layer.weight!.setData(torch.tensor([0.5, 2], { dtype, device }));
    layer.forward(images());
    const state = new Map([...layer.namedBuffers()].map(([name, tensor]) => [name, tensor.clone()]));
    const forward = (input: Tensor): Tensor => {
      layer.loadStateDict(state, { strict: false });
      return layer.forward(input);
    };
    const x = torch.randn([2, 2, 2, 2], { dtype, device }).requiresGrad_();
    gradcheck(forward, [x, layer.weight!, layer.bias!]);
    gradcheck((input) => forward(input.contiguous({ memoryFormat: 'channels_last' })), [x]);
    const bare = make({ affine: false });
    bare.forward(images());
    bare.microBatch.fill_(1);
    gradcheck(
      (input) => {
        bare.microBatch.fill_(1);
        bare.accumulatedMean.fill_(0.5);
        bare.accumulatedVar.fill_(2);
        return bare.forward(input);
      },
      [x],
    );
  });

  it('does not cancel for a large mean and a small variance', () => {
    const layer = make({ eps: 0 });
    const batches = [0, 1].map(() => torch.randn([20, 2], { dtype, device }).mul(0.1).add(1e4));
    const [, y] = batches.map((batch) => layer.forward(batch));
    const pooled = batches.flatMap((batch) => channelValues(batch)[0]!);
    const expected = channelValues(batches[1]!)[0]!.map(
      (value) => (value - meanOf(pooled)) / Math.sqrt(varianceOf(pooled)),
    );
    assertClose(torch.tensor(channelValues(y!)[0]!, { dtype }), torch.tensor(expected, { dtype }), { atol: 1e-6 });
  });

  it('is batch norm for the first micro-batch, with one a step, and in evaluation', () => {
    const [layer, plain] = [make(), new BatchNorm2d({ features: 2, device, dtype })];
    const x = images();
    assertClose(layer.forward(x), plain.forward(x), { atol: 1e-12 });
    assertClose(layer.runningVar!, plain.runningVar!, { atol: 1e-12 });
    assertClose(layer.eval().forward(x), plain.eval().forward(x), { atol: 1e-12 });
    const single = make({ microBatches: 1 });
    for (let step = 0; step < 2; step++) assertClose(single.forward(x), plain.train().forward(x), { atol: 1e-12 });
  });

  it('keeps channels-last and bfloat16, and goes on bit for bit within a step', () => {
    const [a, b] = [make(), make()];
    a.forward(images());
    b.loadStateDict(a.stateDict());
    const x = images().contiguous({ memoryFormat: 'channels_last' });
    const y = a.forward(x);
    assert.ok(y.isContiguous('channels_last'));
    assertClose(b.forward(x), y, { atol: 0, rtol: 0 });
    assertClose(b.accumulatedVar, a.accumulatedVar, { atol: 0, rtol: 0 });
    const short = make({ dtype: 'float32' });
    const input = images().to({ dtype: 'bfloat16' }).requiresGrad_();
    for (let batch = 0; batch < 2; batch++) {
      const out = short.forward(input);
      assert.equal(out.dtype, 'bfloat16');
      out.sum().backward();
    }
    assert.equal(input.grad!.dtype, 'bfloat16');
  });

  it('refuses what does not fit', () => {
    assert.throws(() => make({ microBatches: 0 }), /CrossMiniBatchNorm: microBatches/);
    const layer = make();
    assert.throws(() => layer.forward(torch.zeros([1, 2], { dtype, device })), /the micro-batch has shape \[1, 2\]/);
    assert.throws(() => layer.forward(torch.zeros([4, 3], { dtype, device })), /expected 2 channels/);
    assert.deepEqual(numbers(layer.microBatch), [0]);
  });
});
