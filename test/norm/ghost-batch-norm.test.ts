import assert from 'node:assert/strict';
import type { BatchNorm } from '../../src/norm/batch-norm';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { BatchNorm3d } from '../../src/norm/batch-norm3d';
import { GhostBatchNorm1d } from '../../src/norm/ghost-batch-norm1d';
import { GhostBatchNorm2d } from '../../src/norm/ghost-batch-norm2d';
import { GhostBatchNorm3d } from '../../src/norm/ghost-batch-norm3d';
import { grad, gradcheck, gradgradcheck, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { channelValues, meanOf, varianceOf } from './channel-values';

const dtype = 'float64';
const images = (samples: number): Tensor => torch.randn([samples, 2, 3, 3], { dtype, device });
const ghost = (options: Partial<ConstructorParameters<typeof GhostBatchNorm2d>[0]> = {}): GhostBatchNorm2d =>
  new GhostBatchNorm2d({ features: 2, ghostSize: 3, device, dtype, ...options });

function assertSameState(a: GhostBatchNorm2d, b: BatchNorm): void {
  for (const [name, tensor] of a.stateDict()) assertClose(tensor, b.stateDict().get(name)!, { atol: 1e-12 }, name);
}

describe('GhostBatchNorm', () => {
  it('moves the running statistics ghost by ghost, in a loop over plain numbers', () => {
    const layer = ghost({ momentum: 0.3 });
    const x = images(9);
    const y = layer.forward(x);
    let running = [0, 0];
    let variances = [1, 1];
    x.split(3).forEach((part, g) => {
      const channels = channelValues(part);
      running = running.map((old, c) => 0.7 * old + 0.3 * meanOf(channels[c]!));
      variances = variances.map((old, c) => 0.7 * old + (0.3 * varianceOf(channels[c]!) * 27) / 26);
      const expected = channels.map((values) =>
        values.map((value) => (value - meanOf(values)) / Math.sqrt(varianceOf(values) + 1e-5)),
      );
      assertClose(torch.tensor(channelValues(y.split(3)[g]!), { dtype }), torch.tensor(expected, { dtype }), {
        atol: 1e-10,
      });
    });
    assertClose(layer.runningMean!, torch.tensor(running, { dtype }), { atol: 1e-12 });
    assertClose(layer.runningVar!, torch.tensor(variances, { dtype }), { atol: 1e-12 });
    assert.deepEqual(numbers(layer.numBatchesTracked!), [3]);
  });

  it('leaves the same as plain batch norm on the ghosts one by one, and as micro-batches of its own', () => {
    for (const momentum of [0.1, 1, null]) {
      const [whole, micro] = [ghost({ momentum }), ghost({ momentum })];
      const plain = new BatchNorm2d({ features: 2, momentum, device, dtype });
      for (let step = 0; step < 2; step++) {
        const x = images(9);
        const y = whole.forward(x);
        assertClose(y, torch.cat(x.split(3).map((part) => plain.forward(part))), { atol: 1e-12 });
        assertClose(y, torch.cat(x.split(3).map((part) => micro.forward(part))), { atol: 1e-12 });
      }
      assertSameState(whole, plain);
      assertSameState(whole, micro);
      const x = images(2);
      assertClose(whole.eval().forward(x), plain.eval().forward(x), { atol: 1e-12 });
    }
  });

  it('does as told with samples that fill no ghost', () => {
    const x = images(11);
    const sizes = { merge: [3, 3, 5], keep: [3, 3, 3, 2], spread: [3, 3, 3, 2] };
    const wide = images(10);
    const wideSizes = { merge: [4, 6], keep: [4, 4, 2], spread: [4, 3, 3] };
    for (const unequalGhosts of ['merge', 'keep', 'spread'] as const) {
      for (const [input, ghostSize, parts] of [
        [x, 3, sizes],
        [wide, 4, wideSizes],
      ] as const) {
        const layer = ghost({ unequalGhosts, ghostSize });
        const plain = new BatchNorm2d({ features: 2, device, dtype });
        const expected = torch.cat(input.split(parts[unequalGhosts]).map((part) => plain.forward(part)));
        assertClose(layer.forward(input), expected, { atol: 1e-12 }, unequalGhosts);
        assertSameState(layer, plain);
      }
    }
    assert.throws(() => ghost({ unequalGhosts: 'error' }).forward(x), /a batch of 11 does not divide into ghosts of 3/);
    assert.deepEqual(ghost({ ghostSize: 20 }).forward(x).shape, [11, 2, 3, 3]);
  });

  it('takes every k-th sample where ghosts are interleaved', () => {
    for (const format of ['contiguous_format', 'channels_last'] as const) {
      const layer = ghost({ grouping: 'interleaved' });
      const plain = new BatchNorm2d({ features: 2, device, dtype });
      const x = images(9);
      const y = layer.forward(x.contiguous({ memoryFormat: format }));
      assert.ok(y.isContiguous(format));
      for (let g = 0; g < 3; g++) {
        const rows = torch.tensor([g, g + 3, g + 6], { device, dtype: 'int64' });
        assertClose(y.indexSelect(0, rows), plain.forward(x.indexSelect(0, rows)), { atol: 1e-12 });
      }
      assertSameState(layer, plain);
      assert.throws(() => layer.forward(images(8)), /a batch of 8 does not divide/);
    }
  });

  it('does not cancel for a large mean and a small variance', () => {
    const x = torch.randn([8, 2, 3, 3], { dtype, device }).mul(0.1).add(1e4);
    const layer = ghost({ ghostSize: 4, momentum: 1, eps: 0 });
    const y = layer.forward(x);
    const last = channelValues(x.split(4)[1]!);
    const unbiased = last.map((values) => (varianceOf(values) * 36) / 35);
    assertClose(layer.runningVar!, torch.tensor(unbiased, { dtype }), { atol: 0, rtol: 1e-6 });
    const expected = last.map((values) =>
      values.map((value) => (value - meanOf(values)) / Math.sqrt(varianceOf(values))),
    );
    assertClose(torch.tensor(channelValues(y.split(4)[1]!), { dtype }), torch.tensor(expected, { dtype }), {
      atol: 1e-6,
    });
  });

  it('passes the finite-difference checks, to the second order, in every layout', () => {
    for (const grouping of ['neighbours', 'interleaved'] as const) {
      const layer = ghost({ ghostSize: 2, grouping, unequalGhosts: 'merge' });
      layer.weight!.setData(torch.rand([2], { dtype, device }).add(0.5));
      const samples = grouping === 'neighbours' ? 5 : 4;
      const x = torch.randn([samples, 2, 2, 1], { dtype, device }).requiresGrad_();
      gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
      gradgradcheck((input) => layer.forward(input), [x, layer.weight!]);
    }
    const layer = ghost({ ghostSize: 2, affine: false });
    const x = torch.randn([2, 4, 2, 3], { dtype, device }).requiresGrad_();
    // Neither contiguous nor channels-last, as after a transposition.
    gradcheck((input) => layer.forward(input.transpose(0, 1)), [x]);
  });

  it('gives gradients of its own to parameters alone and to the input alone', () => {
    const layer = ghost();
    const x = images(6);
    const [weight, bias] = grad(layer.forward(x).square().sum(), [layer.weight!, layer.bias!]);
    const input = x.clone().requiresGrad_();
    const all = grad(layer.forward(input).square().sum(), [input, layer.weight!, layer.bias!]);
    assertClose(weight!, all[1]!, { atol: 1e-12 });
    assertClose(bias!, all[2]!, { atol: 1e-12 });
    layer.requiresGrad_(false);
    assertClose(grad(layer.forward(input).square().sum(), [input])[0]!, all[0]!, { atol: 1e-12 });
  });

  it('is the same for vectors, sequences and volumes, and in bfloat16', () => {
    const vectors = new GhostBatchNorm1d({ features: 2, ghostSize: 2, device, dtype });
    const x = torch.randn([4, 2, 5], { dtype, device });
    const plain = new BatchNorm1d({ features: 2, device, dtype });
    assertClose(vectors.forward(x), torch.cat(x.split(2).map((part) => plain.forward(part))), { atol: 1e-12 });
    const rows = torch.randn([4, 2], { dtype, device });
    assertClose(vectors.forward(rows), torch.cat(rows.split(2).map((part) => plain.forward(part))), { atol: 1e-12 });
    const clips = torch.randn([4, 2, 2, 2, 2], { device }).to({ dtype: 'bfloat16' });
    const volumes = new GhostBatchNorm3d({ features: 2, ghostSize: 2, device });
    const plain3d = new BatchNorm3d({ features: 2, device });
    const y = volumes.forward(clips);
    assert.equal(y.dtype, 'bfloat16');
    assertClose(y, torch.cat(clips.split(2).map((part) => plain3d.forward(part))), { atol: 0.02 });
    assertClose(volumes.runningVar!, plain3d.runningVar!, { atol: 1e-10 });
  });

  it('has the gradients of plain batch norm in short types, whatever the parameters are in', () => {
    for (const parameters of ['float32', 'bfloat16'] as const) {
      for (const format of ['contiguous_format', 'channels_last'] as const) {
        const layer = ghost({ dtype: parameters });
        const plain = new BatchNorm2d({ features: 2, device, dtype: parameters });
        const x = images(6).to({ dtype: 'bfloat16' }).contiguous({ memoryFormat: format }).requiresGrad_();
        const gradOutputs = [torch.randn([6, 2, 3, 3], { device }).to({ dtype: 'bfloat16' })];
        const found = grad(layer.forward(x), [x, layer.weight!], { gradOutputs });
        const whole = torch.cat(x.split(3).map((part) => plain.forward(part)));
        const expected = grad(whole, [x, plain.weight!], { gradOutputs });
        found.forEach((gradient, i) => {
          assert.equal(gradient!.dtype, expected[i]!.dtype);
          assertClose(gradient!.to({ dtype }), expected[i]!.to({ dtype }), { atol: 0.03, rtol: 0.03 });
        });
      }
    }
  });

  it('goes on bit for bit from a state dict, and after to()', () => {
    const [a, b] = [ghost(), ghost()];
    a.forward(images(9));
    b.loadStateDict(a.stateDict());
    const x = images(9);
    assertClose(b.forward(x), a.forward(x), { atol: 0, rtol: 0 });
    for (const [name, tensor] of a.stateDict()) assertClose(b.stateDict().get(name)!, tensor, { atol: 0, rtol: 0 });
    a.to('float32');
    assert.equal(a.forward(images(9).to({ dtype: 'float32' })).dtype, 'float32');
  });

  it('refuses ghosts of one value a channel and sizes that do not fit', () => {
    const layer = new GhostBatchNorm1d({ features: 2, ghostSize: 2, unequalGhosts: 'keep', device });
    assert.throws(
      () => layer.forward(torch.zeros([5, 2], { device })),
      /the smallest of 3 ghosts of 5 samples has shape \[1, 2\]/,
    );
    assert.deepEqual(numbers(layer.numBatchesTracked!), [0]);
    assert.throws(() => layer.forward(torch.zeros([0, 2], { device })), /GhostBatchNorm1d/);
    assert.throws(() => new GhostBatchNorm1d({ features: 2, ghostSize: 0 }), /GhostBatchNorm1d: ghostSize/);
  });
});
