import assert from 'node:assert/strict';
import { torch, type Tensor } from '../../src/torch';
import { Dropout, Linear, Sequential } from '../../src/nn';
import { BatchNorm1d, BatchNorm2d, BatchRenorm1d, SplitBatchNorm1d, UncenteredBatchNorm1d } from '../../src/norm';
import { estimateStatistics } from '../../src/norm/estimate-statistics';
import { freezeNorms } from '../../src/norm/freeze';
import { IterativeWhitening } from '../../src/norm/iterative-whitening';
import { CholeskyWhitening } from '../../src/norm/whitening';
import { assertClose, numbers } from '../support/close';

const dtype = 'float64';
const sizes = [5, 2, 7];

/** Batches of different sizes and levels. */
const batches = (...shape: number[]): Tensor[] =>
  sizes.map((size, index) =>
    torch
      .randn([size, ...shape], { dtype })
      .mul(index + 1)
      .add(10 * index),
  );

/** Mean and unbiased variance of a channel, over plain numbers. */
function momentsOf(parts: Tensor[], channel: number): [mean: number, variance: number] {
  const values = parts.flatMap((part) => numbers(part.select(1, channel)));
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean, values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)];
}

describe('estimateStatistics', () => {
  it('gives mean and variance of all values together, whatever the batches', () => {
    for (const norm of [
      new BatchNorm1d({ features: 2, dtype }),
      new SplitBatchNorm1d({ features: 2, splits: 1, dtype, momentum: null }),
    ]) {
      const data = batches(2);
      norm.forward(torch.randn([4, 2], { dtype }));
      assert.deepEqual(estimateStatistics(norm, data), ['']);
      for (const channel of [0, 1]) {
        const [mean, variance] = momentsOf(data, channel);
        assert.ok(Math.abs(numbers(norm.runningMean!)[channel]! - mean) < 1e-10);
        assert.ok(Math.abs(numbers(norm.runningVar!)[channel]! - variance) < 1e-10);
      }
      assert.deepEqual(numbers(norm.numBatchesTracked!), [3]);
    }
  });

  it('leaves the scatter of batch means out when told to, weighing batches by their sizes', () => {
    const norm = new BatchNorm2d({ features: 2, dtype });
    const data = batches(2, 3, 2);
    estimateStatistics(norm, data, { variance: 'within' });
    for (const channel of [0, 1]) {
      const expected = data.reduce((sum, part, index) => sum + momentsOf([part], channel)[1] * sizes[index]!, 0) / 14;
      assert.ok(Math.abs(numbers(norm.runningVar!)[channel]! - expected) < 1e-10);
      assert.ok(Math.abs(numbers(norm.runningMean!)[channel]! - momentsOf(data, channel)[0]) < 1e-10);
    }
  });

  it('does not cancel far from zero', () => {
    const norm = new BatchNorm1d({ features: 1, dtype });
    const data = sizes.map((size) =>
      torch
        .randn([size * 50, 1], { dtype })
        .mul(0.1)
        .add(1e4),
    );
    estimateStatistics(norm, data);
    const [, variance] = momentsOf(data, 0);
    assert.ok(Math.abs(numbers(norm.runningVar!)[0]! / variance - 1) < 1e-6);
  });

  it('sends batches through as in training, but for dropout, and leaves all else as it was', () => {
    const [first, second, third] = [0, 1, 2].map(() => new BatchNorm1d({ features: 3, dtype })) as [
      BatchNorm1d,
      BatchNorm1d,
      BatchNorm1d,
    ];
    for (const norm of [first, second, third]) norm.forward(torch.randn([9, 3], { dtype }));
    const model = new Sequential({
      first,
      dropout: new Dropout({ p: 0.9 }),
      linear: new Linear({ inFeatures: 3, outFeatures: 3, dtype }),
      second,
      rest: new Sequential(third),
    });
    freezeNorms(third);
    model.at(1).training = false;
    const modes = model.modules().map((module) => module.training);
    const frozen = numbers(third.runningMean!);
    const data = batches(3);
    assert.deepEqual(estimateStatistics(model, data), ['first', 'second']);
    const inner = data.map((part) => {
      const normalised = part.sub(part.mean([0])).div(part.var([0], { correction: 0 }).add(1e-5).sqrt());
      return model.at(2).forward(normalised);
    });
    for (const channel of [0, 1, 2]) {
      const [mean, variance] = momentsOf(inner, channel);
      assert.ok(Math.abs(numbers(second.runningMean!)[channel]! - mean) < 1e-10);
      assert.ok(Math.abs(numbers(second.runningVar!)[channel]! - variance) < 1e-10);
    }
    assert.deepEqual(numbers(third.runningMean!), frozen);
    assert.deepEqual(model.modules().map((module) => module.training), modes); // prettier-ignore
    assert.equal(first.momentum, 0.1);
    assert.ok(!Object.hasOwn(first, 'forward'));
  });

  it('estimates what each layer keeps: biased variances, or the mean square', () => {
    const data = [9, 6].map((size, index) => torch.randn([size, 3], { dtype }).add(3 + index));
    const all = torch.cat(data);
    const [renorm, uncentered] = [
      new BatchRenorm1d({ features: 3, dtype }),
      new UncenteredBatchNorm1d({ features: 3, dtype }),
    ];
    for (const norm of [renorm, uncentered]) estimateStatistics(norm, data);
    assertClose(renorm.runningVar!, all.var([0], { correction: 0 }), { atol: 1e-10 });
    assert.deepEqual(numbers(uncentered.runningMean!), [0, 0, 0]);
    assertClose(uncentered.runningVar!, all.square().mean([0]), { atol: 1e-10 });
    estimateStatistics(renorm, data, { variance: 'within' });
    const [first, second] = data.map((part) => part.var([0], { correction: 0 })) as [Tensor, Tensor];
    assertClose(renorm.runningVar!, first.mul(9).add(second.mul(6)).div(15), { atol: 1e-10 });
  });

  it('estimates for whitening layers too', () => {
    const [hard, soft] = [
      new CholeskyWhitening({ features: 4, groups: 2, dtype }),
      new IterativeWhitening({ features: 4, groups: 2, dtype, momentum: 1 }),
    ];
    const data = [9, 6].map((size, index) => torch.randn([size, 4], { dtype }).add(index));
    const all = torch.cat(data);
    for (const norm of [hard, soft]) estimateStatistics(norm, data);
    for (const group of [0, 1]) {
      const covariance = torch.cov(all.narrow(1, 2 * group, 2).t());
      assertClose(hard.runningCovariance!.at(group), covariance, { atol: 1e-10 });
    }
    const whole = new IterativeWhitening({ features: 4, groups: 2, dtype, momentum: 1 });
    whole.forward(all);
    assertClose(soft.runningWhitening!, whole.runningWhitening!, { atol: 1e-10 });
    assertClose(hard.runningMean!, all.mean([0]), { atol: 1e-10 });
  });

  it('asks a predicate, and takes batches of any kind', () => {
    const model = new Sequential(new BatchNorm1d({ features: 2 }), new BatchNorm1d({ features: 2 }));
    const data = batches(2).map((images) => ({ images: images.to('float32') }));
    const paths = estimateStatistics(model, data, {
      where: (_, path) => path === '1',
      forward: ({ images }) => model.forward(images),
    });
    assert.deepEqual(paths, ['1']);
    assert.deepEqual(numbers((model.at(0) as BatchNorm1d).numBatchesTracked!), [0]);
  });

  it('changes nothing on an error', () => {
    const norm = new BatchNorm1d({ features: 2 });
    norm.forward(torch.randn([4, 2]));
    const before = numbers(norm.runningVar!);
    const failing = [torch.randn([4, 2]), torch.randn([1, 2])];
    assert.throws(() => estimateStatistics(norm, failing), /more than one value/);
    assert.throws(() => estimateStatistics(norm, []), /there was no batch/);
    assert.deepEqual(numbers(norm.runningVar!), before);
    assert.deepEqual(numbers(norm.numBatchesTracked!), [1]);
    assert.ok(norm.training);
    const none = new Linear({ inFeatures: 1, outFeatures: 1 });
    assert.throws(() => estimateStatistics(none, [torch.ones([2, 1])]), /Linear has no norm with running statistics/);
  });
});
