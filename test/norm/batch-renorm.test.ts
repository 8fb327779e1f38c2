import assert from 'node:assert/strict';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { BatchRenorm1d } from '../../src/norm/batch-renorm1d';
import { BatchRenorm2d } from '../../src/norm/batch-renorm2d';
import { BatchRenorm3d } from '../../src/norm/batch-renorm3d';
import { crossqRenorm, jointForward } from '../../src/norm/batch-renorm';
import { grad, gradcheck, torch, type Tensor } from '../../src/torch';
import { assertClose, largestDifference } from '../support/close';
import { device } from '../support/device';
import { channelValues, meanOf, varianceOf } from './channel-values';

const dtype = 'float64';
const images = (samples = 4): Tensor => torch.randn([samples, 2, 3, 3], { dtype, device }).mul(3).add(2);
const clip = (low: number, high: number, value: number): number => Math.min(high, Math.max(low, value));
const ready = { plainBatches: 0, rampR: 0, rampD: 0 };

describe('BatchRenorm', () => {
  it('is the formula, with limits that grow, in a loop over plain numbers', () => {
    const options = { plainBatches: 1, rampR: 5, rampD: 3, rMax: 1.5, dMax: 0.4, momentum: 0.2, eps: 1e-3 };
    const layer = new BatchRenorm2d({ features: 2, device, dtype, ...options });
    layer.weight!.setData(torch.tensor([0.5, 2], { dtype, device }));
    layer.bias!.setData(torch.tensor([1, -1], { dtype, device }));
    let [means, variances] = [[0, 0], [1, 1]]; // prettier-ignore
    let clipped = 0;
    for (let step = 0; step < 8; step++) {
      const x = images();
      const rMax = 1 + 0.5 * clip(0, 1, (step - 1) / 4);
      const dMax = 0.4 * clip(0, 1, (step - 1) / 2);
      const expected = channelValues(x).map((values, c) => {
        const [mean, variance] = [meanOf(values), varianceOf(values)];
        const sigma = Math.sqrt(variances[c]! + 1e-3);
        const own = Math.sqrt(variance + 1e-3);
        const r = clip(1 / rMax, rMax, own / sigma);
        const d = clip(-dMax, dMax, (mean - means[c]!) / sigma);
        if (r !== own / sigma) clipped++;
        return values.map((value) => (((value - mean) / own) * r + d) * [0.5, 2][c]! + [1, -1][c]!);
      });
      assertClose(
        torch.tensor(channelValues(layer.forward(x)), { dtype }),
        torch.tensor(expected, { dtype }),
        { atol: 1e-10 },
        `step ${step}`,
      );
      means = channelValues(x).map((values, c) => 0.8 * means[c]! + 0.2 * meanOf(values));
      variances = channelValues(x).map((values, c) => 0.8 * variances[c]! + 0.2 * varianceOf(values));
      assertClose(layer.runningMean!, torch.tensor(means, { dtype }), { atol: 1e-10 });
      assertClose(layer.runningVar!, torch.tensor(variances, { dtype }), { atol: 1e-10 });
    }
    assert.ok(clipped > 0 && clipped < 16);
  });

  it('gives in training what evaluation gives where no limit is reached', () => {
    const layer = new BatchRenorm2d({ features: 2, device, dtype, ...ready, rMax: 1e6, dMax: 1e6 });
    for (let step = 0; step < 3; step++) layer.forward(images());
    const x = images();
    const expected = layer.eval().forward(x);
    assertClose(layer.train().forward(x), expected, { atol: 1e-10 });
  });

  it('is batch norm during the plain batches', () => {
    const layer = new BatchRenorm2d({ features: 2, device, dtype, plainBatches: 2 });
    const plain = new BatchNorm2d({ features: 2, device, dtype });
    for (let step = 0; step < 2; step++) {
      const x = images();
      assertClose(layer.forward(x), plain.forward(x), { atol: 1e-12 }, `step ${step}`);
    }
    // The limits begin to grow after the first batch past the plain ones.
    layer.forward(images());
    const x = images();
    assert.ok(largestDifference(layer.forward(x), plain.forward(x)) > 1e-6);
  });

  it('takes r and d for constants in its gradients', () => {
    const layer = new BatchRenorm2d({ features: 2, device, dtype, ...ready, rMax: 2, dMax: 1, momentum: 0 });
    layer.runningMean!.copy_(torch.tensor([1.5, 3], { dtype, device }));
    layer.runningVar!.copy_(torch.tensor([4, 1], { dtype, device }));
    layer.weight!.setData(torch.tensor([0.5, 2], { dtype, device }));
    const x = torch.randn([3, 2, 2, 1], { dtype, device }).requiresGrad_();
    const channel = (values: Tensor): Tensor => values.view([1, 2, 1, 1]);
    const byFormula = (input: Tensor): Tensor => {
      const mean = input.mean([0, 2, 3], true);
      const own = input.sub(mean).square().mean([0, 2, 3], true).add(1e-5).sqrt();
      const sigma = channel(layer.runningVar!.add(1e-5).sqrt());
      const r = own.div(sigma).detach().clamp(0.5, 2);
      const d = mean.sub(channel(layer.runningMean!)).div(sigma).detach().clamp(-1, 1);
      const y = input.sub(mean).div(own).mul(r).add(d);
      return y.mul(channel(layer.weight!)).add(channel(layer.bias!));
    };
    const weights = torch.randn([3, 2, 2, 1], { dtype, device });
    const inputs = [x, layer.weight!, layer.bias!];
    const expected = grad(byFormula(x).mul(weights).sum(), inputs);
    grad(layer.forward(x).mul(weights).sum(), inputs).forEach((gradient, i) => {
      assertClose(gradient!, expected[i]!, { atol: 1e-10 }, `gradient ${i}`);
    });
    const parameters = [layer.weight!, layer.bias!];
    gradcheck(() => layer.forward(x.detach()), parameters);
  });

  it('gives vectors and sequences of one position the same values, gradients and state', () => {
    for (const affine of [true, false]) {
      const [vectors, sequences] = [0, 1].map(
        () => new BatchRenorm1d({ features: 2, device, dtype, ...ready, rMax: 1.2, dMax: 0.3, affine }),
      ) as [BatchRenorm1d, BatchRenorm1d];
      for (let step = 0; step < 3; step++) {
        const x = torch.randn([5, 2], { dtype, device }).mul(2).add(1).requiresGrad_();
        const gradOutputs = [torch.randn([5, 2], { dtype, device })];
        const results = [vectors, sequences].map((layer) => {
          const y = layer === vectors ? layer.forward(x) : layer.forward(x.unsqueeze(2)).squeeze(2);
          return [y, ...grad(y, [x, ...layer.parameters()], { gradOutputs })] as Tensor[];
        });
        results[0]!.forEach((tensor, i) => assertClose(tensor, results[1]![i]!, { atol: 1e-10 }, `${step}, ${i}`));
      }
      assertClose(vectors.runningVar!, sequences.runningVar!, { atol: 1e-12 });
    }
  });

  it('passes the finite-difference check where both limits are reached', () => {
    const layer = new BatchRenorm2d({ features: 2, device, dtype, ...ready, rMax: 1.01, dMax: 0.1, momentum: 0 });
    layer.runningMean!.fill_(-9);
    layer.runningVar!.fill_(50);
    const x = torch.randn([3, 2, 2, 1], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    const bare = new BatchRenorm2d({
      features: 2,
      device,
      dtype,
      ...ready,
      rMax: 1.01,
      dMax: 0.1,
      momentum: 0,
      affine: false,
    });
    bare.runningMean!.fill_(-9);
    bare.runningVar!.fill_(50);
    gradcheck((input) => bare.forward(input.contiguous({ memoryFormat: 'channels_last' })), [x]);
  });

  it('keeps channels-last, takes vectors, sequences, volumes and bfloat16', () => {
    const layer = new BatchRenorm2d({ features: 2, device, ...ready });
    const x = torch.randn([4, 2, 3, 3], { device });
    const last = layer.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assert.ok(last.isContiguous('channels_last'));
    const other = new BatchRenorm2d({ features: 2, device, ...ready });
    assertClose(other.forward(x), last, { atol: 1e-5 });
    const short = new BatchRenorm2d({ features: 2, device, ...ready });
    const y = short.forward(x.to({ dtype: 'bfloat16' }));
    assert.equal(y.dtype, 'bfloat16');
    assertClose(y.to({ dtype: 'float32' }), last, { atol: 0.05 });
    for (const shape of [
      [4, 2],
      [4, 2, 5],
    ]) {
      const layer1d = new BatchRenorm1d({ features: 2, device, ...ready });
      assert.deepEqual(layer1d.forward(torch.randn(shape, { device })).shape, shape);
    }
    const layer3d = new BatchRenorm3d({ features: 2, device, ...ready });
    assert.deepEqual(layer3d.forward(torch.randn([2, 2, 2, 2, 2], { device })).shape, [2, 2, 2, 2, 2]);
  });

  it('goes on bit for bit from a state dict, also in the ramps', () => {
    const make = (): BatchRenorm2d =>
      new BatchRenorm2d({ features: 2, device, dtype, plainBatches: 1, rampR: 4, rampD: 4 });
    const [a, b] = [make(), make()];
    for (let step = 0; step < 3; step++) a.forward(images());
    b.loadStateDict(a.stateDict());
    const x = images();
    assertClose(b.forward(x), a.forward(x), { atol: 0, rtol: 0 });
    assertClose(b.runningVar!, a.runningVar!, { atol: 0, rtol: 0 });
  });

  it('refuses what does not fit', () => {
    assert.throws(() => new BatchRenorm1d({ features: 2, rMax: 0.5 }), /BatchRenorm1d: rMax/);
    assert.throws(() => new BatchRenorm1d({ features: 2, plainBatches: 10, rampR: 5 }), /BatchRenorm1d: rampR/);
    const untracked = { features: 2, trackRunningStats: false };
    assert.throws(() => new BatchRenorm1d(untracked), /needs running statistics/);
    const layer = new BatchRenorm1d({ features: 2, device });
    assert.throws(() => layer.forward(torch.zeros([1, 2], { device })), /more than one value a channel/);
    assert.throws(() => layer.forward(torch.zeros([4, 3], { device })), /expected 2 channels/);
  });
});

describe('jointForward', () => {
  it('normalises two batches as one and takes them apart again', () => {
    const layer = new BatchRenorm1d({ features: 3, device, dtype, ...crossqRenorm });
    const encode = (state: Tensor, action: Tensor): Tensor => layer.forward(torch.cat([state, action], 1));
    const rows = (count: number, size: number): Tensor => torch.randn([count, size], { dtype, device });
    const [state, action, nextState, nextAction] = [rows(4, 2), rows(4, 1), rows(3, 2), rows(3, 1)];
    const [now, next] = jointForward(encode, [state, action], [nextState, nextAction]);
    const joined = torch.cat([torch.cat([state, nextState]), torch.cat([action, nextAction])], 1);
    const again = new BatchRenorm1d({ features: 3, device, dtype, ...crossqRenorm });
    assertClose(torch.cat([now!, next!]), again.forward(joined), { atol: 0, rtol: 0 });
    assert.deepEqual([now!.shape, next!.shape], [[4, 3], [3, 3]]); // prettier-ignore
    assert.throws(() => jointForward(encode, [state], [nextState, nextAction]), /the same inputs.*found 1, 2/);
    assert.throws(() => jointForward(encode), /found none/);
  });
});
