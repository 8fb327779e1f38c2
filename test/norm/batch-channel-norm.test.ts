import assert from 'node:assert/strict';
import { grad, gradcheck, noGrad, torch, type Tensor } from '../../src/torch';
import { BatchChannelNorm1d } from '../../src/norm/batch-channel-norm1d';
import { BatchChannelNorm2d } from '../../src/norm/batch-channel-norm2d';
import type { BatchChannelNorm } from '../../src/norm/batch-channel-norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const randomized = <L extends BatchChannelNorm>(layer: L): L => {
  noGrad(() => {
    for (const parameter of layer.parameters()) parameter.copy_(torch.randn(parameter.shape, { dtype, device }));
    layer.runningMean.copy_(torch.randn([layer.features], { dtype, device }));
    layer.runningVar.copy_(torch.rand([layer.features], { dtype, device }).add(0.5));
  });
  return layer;
};

/** One training step in loops over plain numbers; moves the given estimates. */
function loop(x: number[], [n, c, l]: [number, number, number], layer: BatchChannelNorm, rate: number) {
  const list = (tensor: Tensor | null) => numbers(tensor!);
  const [mean, variance] = [list(layer.runningMean), list(layer.runningVar)];
  const [weight, bias] = [list(layer.weight), list(layer.bias)];
  const [channelWeight, channelBias] = [list(layer.channelWeight), list(layer.channelBias)];
  const at = (i: number, j: number, k: number) => (i * c + j) * l + k;
  const y = new Array<number>(n * c * l);
  for (let j = 0; j < c; j++) {
    let [sum, squares] = [0, 0];
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < l; k++) {
        sum += x[at(i, j, k)]!;
        squares += (x[at(i, j, k)]! - mean[j]!) ** 2;
      }
    }
    mean[j]! += rate * (sum / (n * l) - mean[j]!);
    variance[j]! += rate * (squares / (n * l) - variance[j]!);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < l; k++) {
        const scaled = (x[at(i, j, k)]! - mean[j]!) / Math.sqrt(variance[j]! + layer.eps);
        y[at(i, j, k)] = scaled * weight[j]! + bias[j]!;
      }
    }
  }
  const size = c / layer.groups;
  const z = [...y];
  for (let i = 0; i < n; i++) {
    for (let g = 0; g < layer.groups; g++) {
      const places = Array.from({ length: size * l }, (_, index) => at(i, g * size + Math.floor(index / l), index % l));
      const groupMean = places.reduce((sum, place) => sum + y[place]!, 0) / places.length;
      const groupVariance = places.reduce((sum, place) => sum + (y[place]! - groupMean) ** 2, 0) / places.length;
      for (const place of places) {
        const scaled = (y[place]! - groupMean) / Math.sqrt(groupVariance + layer.eps);
        z[place] = scaled * channelWeight[g]! + channelBias[g]!;
      }
    }
  }
  return { z, mean, variance };
}

describe('BatchChannelNorm1d and BatchChannelNorm2d', () => {
  for (const samples of [1, 3]) {
    it(`moves its estimates and normalises by them: ${samples} samples`, () => {
      const layer = randomized(new BatchChannelNorm2d({ features: 6, groups: 2, momentum: 0.3, device, dtype }));
      const x = torch.randn([samples, 6, 2, 3], { dtype, device }).add(2);
      const { z, mean, variance } = loop(numbers(x), [samples, 6, 6], layer, 0.3);
      const y = layer.forward(x);
      assertClose(y.flatten(), torch.tensor(z, { dtype }), { atol: 1e-10 });
      assertClose(layer.runningMean, torch.tensor(mean, { dtype }), { atol: 1e-12 }, 'mean');
      assertClose(layer.runningVar, torch.tensor(variance, { dtype }), { atol: 1e-12 }, 'variance');
      assert.deepEqual(numbers(layer.numBatchesTracked), [1]);
      // A rate of 0 is evaluation.
      const before = loop(numbers(x), [samples, 6, 6], layer, 0);
      assertClose(layer.eval().forward(x).flatten(), torch.tensor(before.z, { dtype }), { atol: 1e-10 }, 'evaluation');
      assert.deepEqual(numbers(layer.numBatchesTracked), [1]);
    });
  }

  it('takes gradients through x alone, not through the estimates', () => {
    const layer = randomized(new BatchChannelNorm1d({ features: 4, groups: 2, momentum: 0.3, device, dtype }));
    const x = torch.randn([5, 4], { dtype, device }).requiresGrad_();
    const weights = torch.randn([5, 4], { dtype, device });
    layer.forward(x).mul(weights).sum().backward();
    const [ofInput, ofWeight] = [x.grad!.clone(), layer.weight!.grad!.clone()];
    x.grad = null;
    layer.zeroGrad();
    // With the moved estimates as constants, evaluation is the same function.
    layer.eval().forward(x).mul(weights).sum().backward();
    assertClose(ofInput, x.grad!, { atol: 1e-12 });
    assertClose(ofWeight, layer.weight!.grad!, { atol: 1e-12 });
    gradcheck((input) => layer.forward(input), [x, ...layer.parameters()]);
  });

  it('goes forward twice before going back', () => {
    const layer = randomized(new BatchChannelNorm1d({ features: 4, groups: 2, device, dtype }));
    const [a, b] = [0, 1].map(() => torch.randn([3, 4], { dtype, device }).requiresGrad_()) as [Tensor, Tensor];
    const copy = new BatchChannelNorm1d({ features: 4, groups: 2, device, dtype });
    copy.loadStateDict(layer.stateDict());
    const weights = torch.randn([3, 4], { dtype, device });
    copy.forward(a).mul(weights).sum().backward();
    const alone = a.grad!.clone();
    a.grad = null;
    layer.forward(a).mul(weights).sum().add(layer.forward(b).mul(weights).sum()).backward();
    assertClose(a.grad!, alone, { atol: 1e-12 });
  });

  it('is batch and then group normalisation without estimates', () => {
    const layer = randomized(
      new BatchChannelNorm2d({ features: 4, groups: 2, estimate: false, momentum: 0.2, device, dtype }),
    );
    const [mean, variance] = [layer.runningMean.clone(), layer.runningVar.clone()];
    const x = torch.randn([3, 4, 2, 2], { dtype, device }).requiresGrad_();
    const y = torch.batchNorm(x, layer.weight, layer.bias, mean, variance, true, 0.2, 1e-5, true);
    const perChannel = (values: Tensor) => values.repeatInterleave(2);
    const expected = torch.groupNorm(y, 2, perChannel(layer.channelWeight!), perChannel(layer.channelBias!), 1e-5);
    assertClose(layer.forward(x), expected, { atol: 1e-12 });
    assertClose(layer.runningMean, mean, { atol: 1e-12 });
    assertClose(layer.runningVar, variance, { atol: 1e-12 });
    gradcheck((input) => layer.forward(input), [x, ...layer.parameters()]);
  });

  // Small samples and large ones in either memory format take different roads through LibTorch.
  for (const [shape, memoryFormat] of [
    [[3, 4, 2, 3], 'contiguous_format'],
    [[3, 4, 2, 3], 'channels_last'],
    [[2, 4, 64, 33], 'contiguous_format'],
    [[2, 4, 64, 33], 'channels_last'],
  ] as const) {
    for (const estimate of [true, false]) {
      it(`equals LibTorch's operators, forwards and backwards: ${shape.join(', ')}, ${memoryFormat}, estimate ${estimate}`, () => {
        const layer = randomized(
          new BatchChannelNorm2d({ features: 4, groups: 2, estimate, momentum: 0.2, device, dtype }),
        );
        const x = torch.randn(shape, { dtype, device }).add(2).contiguous({ memoryFormat }).requiresGrad_();
        const weights = torch.randn(shape, { dtype, device }).contiguous({ memoryFormat });
        const [mean, variance] = [layer.runningMean.clone(), layer.runningVar.clone()];
        const y = layer.forward(x);
        assert.ok(y.isContiguous(memoryFormat));
        y.mul(weights).sum().backward();
        const made = [x, ...layer.parameters()].map(({ grad }) => grad!.clone());
        x.grad = null;
        layer.zeroGrad();
        const [m, v] = estimate ? [layer.runningMean.clone(), layer.runningVar.clone()] : [mean, variance];
        const first = torch.batchNorm(x, layer.weight, layer.bias, m, v, !estimate, 0.2, 1e-5, true);
        const perChannel = (values: Tensor) => values.repeatInterleave(2);
        const expected = torch.groupNorm(
          first,
          2,
          perChannel(layer.channelWeight!),
          perChannel(layer.channelBias!),
          1e-5,
        );
        expected.mul(weights).sum().backward();
        assertClose(y, expected, { atol: 1e-10 });
        [x, ...layer.parameters()].forEach(({ grad }, index) => {
          assertClose(made[index]!, grad!, { atol: 1e-9 }, ['x', ...layer.namedParameters().keys()][index]);
        });
        if (estimate) return;
        assertClose(layer.runningMean, mean, { atol: 1e-12 }, 'mean');
        assertClose(layer.runningVar, variance, { atol: 1e-12 }, 'variance');
      });
    }
  }

  it('does without affine parameters, and has no second derivative', () => {
    const options = { features: 4, groups: 2, device, dtype } as const;
    const layer = new BatchChannelNorm2d({ ...options, affine: false, estimate: false });
    const full = new BatchChannelNorm2d({ ...options, estimate: false });
    assert.deepEqual(layer.parameters(), []);
    const x = torch.randn([3, 4, 2, 3], { dtype, device }).requiresGrad_();
    assertClose(layer.forward(x), full.forward(x), { atol: 1e-12 });
    gradcheck((input) => layer.forward(input), [x]);
    if (device !== 'cpu') return;
    assert.throws(
      () => grad(layer.forward(x).square().sum(), [x], { createGraph: true }),
      /no second derivative in training mode/,
    );
  });

  for (const memoryFormat of ['contiguous_format', 'channels_last'] as const) {
    it(`does not cancel for a mean of 1e4 and a variance of 1e-2: ${memoryFormat}`, () => {
      const layer = new BatchChannelNorm2d({ features: 4, groups: 1, momentum: 1, device, dtype });
      const x = torch.randn([2, 4, 64, 32], { dtype, device }).mul(0.1).add(1e4).contiguous({ memoryFormat });
      layer.runningMean.fill_(1e4);
      layer.forward(x);
      assertClose(layer.runningVar, x.sub(1e4).square().mean([0, 2, 3]), { atol: 0, rtol: 1e-6 });
      const vectors = new BatchChannelNorm1d({ features: 2, groups: 1, momentum: 1, device, dtype });
      vectors.runningMean.fill_(1e4);
      const rows = torch.randn([64, 2], { dtype, device }).mul(0.1).add(1e4);
      vectors.forward(rows);
      assertClose(vectors.runningVar, rows.sub(1e4).square().mean([0]), { atol: 0, rtol: 1e-6 });
    });
  }

  it('gives the same in channels-last memory, and keeps it', () => {
    const [a, b] = [0, 1].map(() => new BatchChannelNorm2d({ features: 4, groups: 2, device, dtype }));
    const x = torch.randn([3, 4, 3, 5], { dtype, device });
    const y = a!.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assertClose(y, b!.forward(x), { atol: 1e-12 });
    assert.ok(y.isContiguous('channels_last'));
  });

  it('goes on from its state bit for bit', () => {
    const layer = randomized(new BatchChannelNorm1d({ features: 4, groups: 2, momentum: null, device, dtype }));
    layer.forward(torch.randn([3, 4], { dtype, device }));
    const copy = new BatchChannelNorm1d({ features: 4, groups: 2, momentum: null, device, dtype });
    copy.loadStateDict(layer.stateDict());
    const x = torch.randn([3, 4], { dtype, device });
    assertClose(copy.forward(x), layer.forward(x), { atol: 0, rtol: 0 });
    assertClose(copy.runningVar, layer.runningVar, { atol: 0, rtol: 0 });
  });

  it('works in bfloat16', () => {
    const layer = new BatchChannelNorm2d({ features: 4, groups: 2, device }).to('bfloat16');
    const y = layer.forward(torch.randn([2, 4, 3, 3], { device }).to({ dtype: 'bfloat16' }));
    assert.equal(y.dtype, 'bfloat16');
    assert.equal(layer.runningVar.dtype, 'bfloat16');
  });

  it('refuses what makes no sense, before its state changes', () => {
    assert.throws(() => new BatchChannelNorm2d({ features: 48 }), /groups \(32\) must divide features \(48\)/);
    const layer = new BatchChannelNorm1d({ features: 4, groups: 4, device });
    assert.throws(() => layer.forward(torch.zeros([3, 4], { device })), /a group needs more than one value a sample/);
    const pair = new BatchChannelNorm1d({ features: 4, groups: 2, device, nonFinite: 'raise' });
    assert.throws(() => pair.forward(torch.zeros([3, 6], { device })), /expected 4 channels, found .*\[3, 6\]/);
    assert.throws(() => pair.forward(torch.zeros([0, 4], { device })), /needs at least 1 value a channel/);
    assert.throws(() => pair.forward(torch.full([2, 4], NaN, { device })), /holds NaN/);
    assert.deepEqual(numbers(pair.numBatchesTracked), [0]);
    const plain = new BatchChannelNorm1d({ features: 4, groups: 2, estimate: false, device });
    assert.throws(() => plain.forward(torch.zeros([1, 4], { device })), /at least 2 values .* estimate: true/);
  });
});
