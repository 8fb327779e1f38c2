import assert from 'node:assert/strict';
import { Generator, torch } from '../../src/torch';
import { Linear, ReLU, Sequential } from '../../src/nn';
import { ResidualEncoder } from '../../src/models';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { gradientNorms, signalPropagation } from '../../src/norm/signal-propagation';
import { numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

/** By plain numbers: the mean over channels of the squared mean, and of the variance, over all else. */
function expected(values: number[], [n, c, l]: [number, number, number]): [number, number] {
  let [squares, variances] = [0, 0];
  for (let j = 0; j < c; j++) {
    const channel = values.filter((_, index) => Math.floor(index / l) % c === j);
    const mean = channel.reduce((sum, value) => sum + value, 0) / (n * l);
    squares += mean ** 2 / c;
    variances += channel.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n * l) / c;
  }
  return [squares, variances];
}

const near = (a: number | null, b: number) => assert.ok(Math.abs(a! - b) < 1e-10, `${a} is not ${b}`);

describe('signalPropagation', () => {
  it('measures the blocks of a residual encoder, and their branches before the sum', () => {
    const model = new ResidualEncoder({ inChannels: 2, widths: [4, 6] }).to({ dtype, device }).eval();
    const x = torch.randn([3, 2, 6, 6], { dtype, device });
    const rows = signalPropagation(model, x, { training: false });
    assert.deepEqual(
      rows.map(({ name, depth }) => [name, depth]),
      [['input', 0], ['stages.0.0', 1], ['stages.1.0', 2]], // prettier-ignore
    );
    const stem = model.bn1.forward(model.conv1.forward(x)).relu();
    const block = (model.stages.at(0) as Sequential).at(0) as unknown as Record<
      'conv1' | 'bn1' | 'conv2' | 'bn2',
      ReLU
    >;
    const branch = block.bn2.forward(block.conv2.forward(block.bn1.forward(block.conv1.forward(stem)).relu()));
    const first = branch.add(stem).relu();
    const [mean, variance] = expected(numbers(first), [3, 4, 36]);
    near(rows[1]!.squaredMean, mean);
    near(rows[1]!.variance, variance);
    near(rows[1]!.residualVariance, expected(numbers(branch), [3, 4, 36])[1]);
    near(rows[0]!.variance, expected(numbers(stem), [3, 4, 36])[1]);
    assert.equal(rows[0]!.residualVariance, null);
  });

  it('changes nothing of the model', () => {
    const model = new ResidualEncoder({ inChannels: 2, widths: [4] }).to({ device });
    model.bn1.eval();
    const before = [...model.stateDict().values()].map(numbers);
    const rows = signalPropagation(model, { shape: [2, 2, 4, 4], generator: new Generator({ seed: 1 }) });
    assert.equal(rows.length, 2);
    assert.deepEqual([...model.stateDict().values()].map(numbers), before);
    assert.deepEqual([model.training, model.bn1.training], [true, false]);
    assert.ok(model.modules().every((module) => !Object.hasOwn(module, 'forward')));
    assert.throws(() => signalPropagation(model, torch.zeros([1, 3, 4, 4], { device })));
    assert.ok(model.modules().every((module) => !Object.hasOwn(module, 'forward')));
    assert.deepEqual([model.training, model.bn1.training], [true, false]);
  });

  it('takes any modules as blocks', () => {
    const linear = new Linear({ inFeatures: 3, outFeatures: 4, device, dtype });
    const model = new Sequential(linear, new BatchNorm1d({ features: 4, device, dtype }), new ReLU({ inPlace: true }));
    const x = torch.randn([5, 3], { dtype, device });
    const rows = signalPropagation(model, x, {
      blocks: (module) => module instanceof Linear || module instanceof BatchNorm1d,
    });
    assert.deepEqual(rows.map(({ name }) => name), ['input', '0', '1']); // prettier-ignore
    near(rows[1]!.variance, expected(numbers(linear.forward(x)), [5, 4, 1])[1]);
    assert.ok(Math.abs(rows[2]!.variance - 1) < 1e-3 && rows[2]!.squaredMean < 1e-20);
    assert.throws(
      () => signalPropagation(model, x),
      /calls no block; say which modules are blocks by the option blocks/,
    );
  });
});

describe('gradientNorms', () => {
  it('gives the norm of each weight that has a gradient, in order', () => {
    const [first, second] = [
      new Linear({ inFeatures: 2, outFeatures: 2, device }),
      new Linear({ inFeatures: 2, outFeatures: 1, device }),
    ];
    const model = new Sequential(first, second);
    assert.deepEqual(gradientNorms(model), []);
    first.weight.grad = torch.tensor([[3, 0], [0, 4]], { device }); // prettier-ignore
    first.bias!.grad = torch.ones([2], { device });
    second.weight.grad = torch.tensor([[1, 0]], { device });
    assert.deepEqual(gradientNorms(model), [
      { name: '0.weight', depth: 0, norm: 5 },
      { name: '1.weight', depth: 1, norm: 1 },
    ]);
  });
});
