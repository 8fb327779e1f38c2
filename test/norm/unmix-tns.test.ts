import assert from 'node:assert/strict';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { UnMixTns } from '../../src/norm/unmix-tns';
import { Generator, gradcheck, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { meanOf, varianceOf } from './channel-values';

const dtype = 'float64';
const images = (samples = 4): Tensor => torch.randn([samples, 3, 2, 2], { dtype, device }).mul(2).add(0.5);

function source(): BatchNorm2d {
  const layer = new BatchNorm2d({ features: 3, device, dtype });
  layer.weight!.setData(torch.tensor([0.5, 2, 1], { dtype, device }));
  layer.bias!.setData(torch.tensor([1, -1, 0], { dtype, device }));
  layer.forward(images(16));
  return layer;
}

const table = (tensor: Tensor): number[][] => {
  const [rows, columns] = tensor.shape as [number, number];
  const flat = numbers(tensor);
  return Array.from({ length: rows }, (_, row) => flat.slice(row * columns, (row + 1) * columns));
};

/** The layer by loops over plain numbers; gives the outputs and moves the components. */
function byHand(x: Tensor, means: number[][], variances: number[][], layer: UnMixTns): number[] {
  const [samples, features] = x.shape as [number, number];
  const values = numbers(x);
  const size = values.length / samples / features;
  const [weight, bias] = [numbers(layer.weight!), numbers(layer.bias!)];
  const components = means.length;
  const part = (b: number, c: number): number[] =>
    values.slice((b * features + c) * size, (b * features + c + 1) * size);
  const own = Array.from({ length: samples }, (_, b) => weight.map((_, c) => meanOf(part(b, c))));
  const spread = Array.from({ length: samples }, (_, b) => weight.map((_, c) => varianceOf(part(b, c))));
  const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const shares = own.map((mean) => {
    const scores = means.map((k) =>
      Math.exp(dot(mean, k) / Math.sqrt(dot(mean, mean) * dot(k, k)) / layer.temperature),
    );
    const total = scores.reduce((sum, score) => sum + score, 0);
    return scores.map((score) => score / total);
  });
  const y = own.flatMap((mean, b) =>
    mean.flatMap((value, c) => {
      const mixed = means.map((k, i) => (1 - shares[b]![i]!) * k[c]! + shares[b]![i]! * value);
      const within = variances.map((k, i) => (1 - shares[b]![i]!) * k[c]! + shares[b]![i]! * spread[b]![c]!);
      const centre = meanOf(mixed);
      const variance = meanOf(within) + meanOf(mixed.map((m) => m ** 2)) - centre ** 2;
      return part(b, c).map((v) => ((v - centre) / Math.sqrt(variance + layer.eps)) * weight[c]! + bias[c]!);
    }),
  );
  for (const [rows, found] of [
    [means, own],
    [variances, spread],
  ] as const) {
    for (let k = 0; k < components; k++) {
      rows[k] = rows[k]!.map(
        (old, c) => old + layer.momentum * meanOf(found.map((row, b) => shares[b]![k]! * (row[c]! - old))),
      );
    }
  }
  return y;
}

describe('UnMixTns', () => {
  it('is the formula, and its components follow, in loops over plain numbers', () => {
    const layer = new UnMixTns(source(), { components: 5, momentum: 0.3 });
    const [means, variances] = [table(layer.runningMeans), table(layer.runningVars)];
    for (const samples of [4, 1, 3]) {
      const x = images(samples);
      const expected = byHand(x, means, variances, layer);
      const y = layer.train(samples > 1).forward(x);
      assertClose(y.view([-1]), torch.tensor(expected, { dtype }), { atol: 1e-10 });
      assertClose(layer.runningMeans, torch.tensor(means, { dtype }), { atol: 1e-10 });
      assertClose(layer.runningVars, torch.tensor(variances, { dtype }), { atol: 1e-10 });
    }
  });

  it('starts from components that together have the source statistics', () => {
    const norm = source();
    const layer = new UnMixTns(norm, { components: 4000, generator: new Generator({ seed: 1 }) });
    assertClose(layer.runningMeans.mean([0]), norm.runningMean!, { atol: 0.15 });
    const total = layer.runningMeans.var([0]).add(layer.runningVars.mean([0]));
    assertClose(total.div(norm.runningVar!), torch.ones([3], { dtype }), { atol: 0.1 });
    const again = new UnMixTns(norm, { components: 4000, generator: new Generator({ seed: 1 }) });
    assertClose(again.runningMeans, layer.runningMeans, { atol: 0, rtol: 0 });
    const one = new UnMixTns(norm, { components: 1 });
    assertClose(one.runningMeans.select(0, 0), norm.runningMean!, { atol: 0, rtol: 0 });
    assertClose(one.runningVars.select(0, 0), norm.runningVar!, { atol: 0, rtol: 0 });
  });

  it('takes its momentum from the batch norm and the batch size', () => {
    assert.ok(Math.abs(new UnMixTns(source()).momentum - 0.1) < 1e-12);
    assert.ok(Math.abs(new UnMixTns(source(), { batchSize: 16 }).momentum - (1 - 0.9 ** 0.25)) < 1e-12);
  });

  it('does not cancel for a large mean and a small variance', () => {
    const norm = new BatchNorm2d({ features: 3, eps: 0, device, dtype });
    norm.runningMean!.fill_(1e4);
    norm.runningVar!.fill_(1e-2);
    const layer = new UnMixTns(norm, { components: 1 });
    const x = torch.randn([1, 3, 8, 8], { dtype, device }).mul(0.1).add(1e4);
    // One component takes the whole sample, whose own statistics are then used alone.
    const flat = x.view([3, 64]);
    const centred = flat.sub(flat.mean([1], true));
    const expected = centred.div(centred.square().mean([1], true).sqrt());
    assertClose(layer.forward(x).view([3, 64]), expected, { atol: 1e-6 });
  });

  it('lets gradients flow through the input, its own statistics, γ and β', () => {
    const layer = new UnMixTns(source(), { components: 1 });
    layer.adapting = false;
    const x = images(2).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    const several = new UnMixTns(source(), { components: 3 });
    several.adapting = false;
    gradcheck(() => several.forward(x.detach()), [several.weight!, several.bias!]);
  });

  it('normalises vectors by the source statistics, and sequences by their own', () => {
    const norm = new BatchNorm1d({ features: 3, device, dtype });
    norm.forward(torch.randn([8, 3], { dtype, device }));
    const layer = new UnMixTns(norm);
    const x = torch.randn([2, 3], { dtype, device });
    assertClose(layer.forward(x), norm.eval().forward(x), { atol: 1e-12 });
    const before = numbers(layer.runningMeans);
    layer.forward(torch.randn([2, 3, 5], { dtype, device }));
    assert.notDeepEqual(numbers(layer.runningMeans), before);
  });

  it('keeps channels-last, takes bfloat16, and goes on bit for bit', () => {
    const norm = source();
    const [a, b, c] = [new UnMixTns(norm), new UnMixTns(norm), new UnMixTns(norm)];
    a.forward(images());
    for (const layer of [b, c]) layer.loadStateDict(a.stateDict());
    const x = images();
    const last = x.contiguous({ memoryFormat: 'channels_last' });
    const y = a.forward(last);
    assert.ok(y.isContiguous('channels_last'));
    assertClose(b.forward(last), y, { atol: 0, rtol: 0 });
    assertClose(b.runningVars, a.runningVars, { atol: 0, rtol: 0 });
    assertClose(c.forward(x), y, { atol: 1e-12 });
    assertClose(c.runningVars, a.runningVars, { atol: 1e-14 });
    const short = a.to('float32').forward(x.to({ dtype: 'bfloat16' }));
    assert.equal(short.dtype, 'bfloat16');
    assert.notEqual(a.weight, norm.weight);
  });

  it('refuses what does not fit', () => {
    const bare = new BatchNorm2d({ features: 3, trackRunningStats: false, device });
    assert.throws(() => new UnMixTns(bare), /keeps no running statistics/);
    assert.throws(() => new UnMixTns(source(), { components: 0 }), /UnMixTns: components/);
    assert.throws(() => new UnMixTns(source(), { temperature: 0 }), /UnMixTns: temperature/);
    assert.throws(
      () => new UnMixTns(source()).forward(torch.zeros([2, 4, 1], { dtype, device })),
      /expected \[N, 3, …\]/,
    );
  });
});
