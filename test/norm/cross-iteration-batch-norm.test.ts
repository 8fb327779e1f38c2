import assert from 'node:assert/strict';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { CrossIterationBatchNorm } from '../../src/norm/cross-iteration-batch-norm';
import { Conv2d, Linear, type Parameter } from '../../src/nn';
import { grad, gradcheck, noGrad, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { channelValues, meanOf, varianceOf } from './channel-values';

const dtype = 'float64';
const eps = 1e-5;
const rows = (count = 5): Tensor => torch.randn([count, 3], { dtype, device }).add(1);
const linear = (): Linear => new Linear({ inFeatures: 3, outFeatures: 2, device, dtype });
const change = (weight: Parameter, by: number): void => {
  noGrad(() => weight.add_(torch.randn([...weight.shape], { dtype, device }).mul(by)));
};

/** One batch of a linear layer's outputs and, by hand, the derivatives of their statistics. */
interface Past {
  input: number[][];
  weight: number[][];
  bias: number[];
}

const outputs = ({ input, bias }: Past, weight: number[][], c: number): number[] =>
  input.map((row) => row.reduce((sum, value, i) => sum + value * weight[c]![i]!, bias[c]!));

/** Mean and mean square to first order in the change of the weight: the mean exactly, the square by its derivative. */
function expanded(past: Past, weight: number[][], c: number): [mean: number, square: number] {
  const then = outputs(past, past.weight, c);
  const delta = weight[c]!.map((value, i) => value - past.weight[c]![i]!);
  const moved = past.input.map((row) => row.reduce((sum, value, i) => sum + value * delta[i]!, 0));
  const mean = meanOf(then) + meanOf(moved);
  return [mean, meanOf(then.map((value) => value ** 2)) + meanOf(then.map((value, n) => 2 * value * moved[n]!))];
}

const nested = (tensor: Tensor): number[][] => {
  const flat = numbers(tensor);
  const width = tensor.sizeOf(1);
  return Array.from({ length: tensor.sizeOf(0) }, (_, row) => flat.slice(row * width, (row + 1) * width));
};

describe('CrossIterationBatchNorm', () => {
  for (const compensated of [true, false]) {
    it(`takes statistics over the last batches, ${compensated ? 'with' : 'without'} compensation`, () => {
      const layer = linear();
      const options = { features: 2, window: 3, device, dtype } as const;
      const norm = new CrossIterationBatchNorm({ ...options, ...(compensated ? { producer: layer.weight } : {}) });
      const seen: Past[] = [];
      let left = 0;
      for (let step = 0; step < 6; step++) {
        const x = rows(4 + (step % 2));
        const output = layer.forward(x);
        const weight = nested(layer.weight);
        seen.unshift({ input: nested(x), weight, bias: numbers(layer.bias!) });
        const expected = channelValues(output).map((values, c) => {
          const past = seen.slice(1, 3).map((batch) => expanded(batch, compensated ? weight : batch.weight, c));
          const fit = past.filter(([mean, square]) => square - mean ** 2 >= 0);
          left += past.length - fit.length;
          const all = [[meanOf(values), meanOf(values.map((value) => value ** 2))] as const, ...fit];
          const mean = meanOf(all.map(([value]) => value));
          const variance = meanOf(all.map(([, square]) => square)) - mean ** 2;
          return values.map((value) => (value - mean) / Math.sqrt(variance + eps));
        });
        const y = norm.forward(output);
        assertClose(
          torch.tensor(channelValues(y), { dtype }),
          torch.tensor(expected, { dtype }),
          { atol: 1e-10 },
          `step ${step}`,
        );
        change(layer.weight, step === 3 ? 3 : 0.1);
      }
      // The large change makes some variances negative, which are then left out.
      if (compensated) assert.ok(left > 0, 'no batch was left out');
    });
  }

  it('lets gradients flow through the share of the current batch', () => {
    const norm = new CrossIterationBatchNorm({ features: 2, window: 3, momentum: 0, device, dtype });
    norm.weight!.setData(torch.tensor([0.5, 2], { dtype, device }));
    const past = [0, 1].map(() => torch.randn([4, 2, 3, 2], { dtype, device }).requiresGrad_());
    for (const x of past) norm.forward(x);
    const state = new Map([...norm.namedBuffers()].map(([name, tensor]) => [name, tensor.clone()]));
    const x = torch.randn([4, 2, 3, 2], { dtype, device }).requiresGrad_();
    gradcheck(
      (input) => {
        norm.loadStateDict(state, { strict: false });
        return norm.forward(input);
      },
      [x, norm.weight!, norm.bias!],
    );
    norm.loadStateDict(state, { strict: false });
    gradcheck(
      (input) => {
        norm.loadStateDict(state, { strict: false });
        return norm.forward(input.contiguous({ memoryFormat: 'channels_last' }));
      },
      [x],
    );
  });

  it('follows a convolution in front of it', () => {
    const conv = new Conv2d({ inChannels: 2, outChannels: 3, kernelSize: 3, device, dtype });
    const norm = new CrossIterationBatchNorm({ features: 3, window: 2, producer: conv.weight, device, dtype });
    const image = torch.randn([2, 2, 5, 5], { dtype, device });
    norm.forward(conv.forward(image));
    change(conv.weight, 1e-4);
    // The same images again: compensated, the earlier statistics are those of now, up to second order.
    const y = norm.forward(conv.forward(image));
    const [values] = channelValues(y);
    assert.ok(Math.abs(meanOf(values!)) < 1e-9);
    assert.ok(Math.abs(varianceOf(values!) - 1) < 1e-3);
    assertClose(norm.pastWeights!.select(0, 0), conv.weight.detach(), { atol: 0, rtol: 0 });
  });

  it('does not cancel for a large mean and a small variance', () => {
    const norm = new CrossIterationBatchNorm({ features: 2, window: 2, eps: 0, device, dtype });
    const batch = (): Tensor => torch.randn([50, 2], { dtype, device }).mul(0.1).add(1e4).requiresGrad_();
    const [first, second] = [batch(), batch()];
    norm.forward(first);
    const y = norm.forward(second);
    const [a, b] = [channelValues(first)[0]!, channelValues(second)[0]!];
    const pooled = [...a, ...b];
    const expected = b.map((value) => (value - meanOf(pooled)) / Math.sqrt(varianceOf(pooled)));
    assertClose(torch.tensor(channelValues(y)[0]!, { dtype }), torch.tensor(expected, { dtype }), { atol: 1e-6 });
  });

  it('is batch norm in evaluation, while burning in, alone, and where nothing is recorded', () => {
    const plain = new BatchNorm1d({ features: 2, device, dtype });
    const norm = new CrossIterationBatchNorm({ features: 2, window: 3, burnIn: 2, device, dtype });
    const batch = (): Tensor => torch.randn([4, 2], { dtype, device }).requiresGrad_();
    for (let step = 0; step < 3; step++) {
      const x = batch();
      assertClose(norm.forward(x), plain.forward(x), { atol: 1e-12 });
    }
    assert.deepEqual(numbers(norm.pastValid), [1, 1, 0, 0]);
    const x = batch();
    const before = numbers(norm.pastMeans);
    assertClose(noGrad(() => norm.forward(x)), noGrad(() => plain.forward(x)), { atol: 1e-12 }); // prettier-ignore
    assert.deepEqual(numbers(norm.pastMeans), before);
    assertClose(norm.eval().forward(x), plain.eval().forward(x), { atol: 1e-12 });
    const alone = new CrossIterationBatchNorm({ features: 2, window: 1, device, dtype });
    assertClose(alone.forward(x), plain.train().forward(x), { atol: 1e-12 });
  });

  it('goes on bit for bit from a state dict, and keeps the producer out of its parameters', () => {
    const layer = linear();
    const make = (): CrossIterationBatchNorm =>
      new CrossIterationBatchNorm({ features: 2, window: 4, producer: layer.weight, device, dtype });
    const [a, b] = [make(), make()];
    for (let step = 0; step < 3; step++) {
      a.forward(layer.forward(rows()));
      change(layer.weight, 0.1);
    }
    assert.deepEqual([...a.namedParameters().keys()], ['weight', 'bias']);
    b.loadStateDict(a.stateDict());
    const output = layer.forward(rows());
    const gradients = [a, b].map((norm) =>
      grad(norm.forward(output).square().sum(), [layer.weight], { retainGraph: true }),
    );
    assertClose(gradients[0]![0]!, gradients[1]![0]!, { atol: 0, rtol: 0 });
    for (const [name, tensor] of a.stateDict())
      assertClose(b.stateDict().get(name)!, tensor, { atol: 0, rtol: 0 }, name);
  });

  it('refuses what does not fit', () => {
    const layer = linear();
    assert.throws(
      () => new CrossIterationBatchNorm({ features: 3, producer: layer.weight }),
      /producer must be a weight \[3/,
    );
    assert.throws(() => new CrossIterationBatchNorm({ features: 3, window: 0 }), /window/);
    const norm = new CrossIterationBatchNorm({ features: 2, producer: layer.weight, device, dtype });
    const stranger = torch.randn([4, 2], { dtype, device }).requiresGrad_();
    assert.throws(() => norm.forward(stranger), /not computed from the producer's weight/);
    assert.deepEqual(numbers(norm.numBatchesTracked!), [0]);
    const one = torch.zeros([1, 2], { dtype, device }).requiresGrad_();
    assert.throws(() => norm.forward(one), /more than one value a channel/);
    assert.throws(() => norm.forward(torch.zeros([3], { dtype, device })), /expected \[N, C, …\]/);
  });
});
