import assert from 'node:assert/strict';
import { Generator, gradcheck, torch, type Tensor } from '../../src/torch';
import { init } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import {
  OrthogonalBatchNormMLP,
  isometryGap,
  type OrthogonalBatchNormMLPOptions,
} from '../../src/norm/orthogonal-batch-norm-mlp';
import { gradientNorms } from '../../src/norm/signal-propagation';
import { assertClose } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const make = (options: Partial<OrthogonalBatchNormMLPOptions> = {}) =>
  new OrthogonalBatchNormMLP({
    inFeatures: 20,
    hiddenFeatures: 16,
    outFeatures: 4,
    depth: 3,
    device,
    dtype,
    generator: new Generator({ seed: 1, device }),
    ...options,
  });
const batch = () => torch.randn([16, 20], { dtype, device, generator: new Generator({ seed: 2, device }) });

/** The norm of the first hidden weight's gradient of a cross-entropy. */
function firstGradient(model: OrthogonalBatchNormMLP): number {
  model.zeroGrad();
  const labels = torch.arange(16, { device }).remainder(4);
  model.forward(batch()).crossEntropyLoss(labels).backward();
  return gradientNorms(model)[1]!.norm;
}

describe('OrthogonalBatchNormMLP', () => {
  it('is its formula', () => {
    const model = make({ activation: 'sin' });
    let hidden: Tensor = batch();
    for (const [index, layer] of [...model.layers].entries()) {
      const linear = hidden.matmul(layer.weight.t());
      const scaled = linear.div(linear.square().mean([0], { keepdim: true }).add(1e-5).sqrt());
      hidden = scaled.mul((index + 1) ** -0.4).sin();
    }
    assertClose(model.forward(batch()), hidden.matmul(model.output.weight.t()), { atol: 1e-10 });
  });

  it('keeps gradients bounded at depth, where Gaussian weights explode', () => {
    const gaussian = (depth: number) => {
      const model = make({ depth });
      const generator = new Generator({ seed: 9, device });
      for (const layer of model.layers) init.xavierNormal_(layer.weight, { generator });
      return firstGradient(model);
    };
    assert.ok(firstGradient(make({ depth: 300 })) < 2 * firstGradient(make({ depth: 5 })));
    assert.ok(gaussian(300) > 8 * gaussian(5));
  });

  it('makes the samples of a batch orthogonal with depth', () => {
    const hidden = (depth: number) => {
      const model = make({ depth });
      let x: Tensor = batch();
      for (let index = 0; index < depth; index++) x = model.norms.at(index).forward(model.layers.at(index).forward(x));
      return isometryGap(x).itemSync();
    };
    const [shallow, deep] = [hidden(2), hidden(200)];
    assert.ok(deep < 0.2 * shallow, `${shallow} to ${deep}`);
  });

  it('takes other activations and norms, and passes the finite-difference check', () => {
    const model = make({ activation: 'tanh', norm: (features) => new BatchNorm1d({ features, device, dtype }) });
    assert.equal(model.gainExponent, 0.4);
    assert.ok(model.namedParameters().has('norms.2.weight'));
    gradcheck((input) => model.forward(input), [batch().requiresGrad_(), model.layers.at(0).weight], { probes: 20 });
    assert.throws(() => make({ depth: 0 }), /depth must be an integer of at least 1/);
    assert.throws(() => model.forward(torch.zeros([2, 20, 1])), /expected \[N, C\]/);
  });
});

describe('isometryGap', () => {
  it('is the logarithm of the mean eigenvalue less the mean logarithm', () => {
    const x = torch.tensor([[2, 0, 0], [0, 3, 0]], { device }); // prettier-ignore
    const expected = Math.log((4 + 9) / 2) - (Math.log(4) + Math.log(9)) / 2;
    assert.ok(Math.abs(isometryGap(x).itemSync() - expected) < 1e-12);
    assert.ok(Math.abs(isometryGap(torch.eye(4).mul(5)).itemSync()) < 1e-12);
    assert.equal(isometryGap(torch.ones([3, 2])).itemSync(), Infinity);
    assert.throws(() => isometryGap(torch.ones([3])), /expected \[N, d\]/);
  });
});
