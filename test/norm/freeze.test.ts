import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Linear, Sequential } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { FilterResponseNorm } from '../../src/norm/filter-response-norm';
import { freezeNorms, isFrozen, unfreezeNorms } from '../../src/norm/freeze';
import { InstanceNorm1d } from '../../src/norm/instance-norm1d';
import { LayerNorm } from '../../src/norm/layer-norm';
import { SplitBatchNorm1d } from '../../src/norm/split-batch-norm1d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

function trained<L extends BatchNorm1d>(layer: L): L {
  for (let batch = 0; batch < 3; batch++) layer.forward(torch.randn([8, layer.features], { device }).add(5));
  return layer;
}

describe('freezeNorms and unfreezeNorms', () => {
  it('normalise by running statistics that stay in training, whatever train() and eval() say', () => {
    const norm = trained(new BatchNorm1d({ features: 3, device }));
    const model = new Sequential(new Linear({ inFeatures: 3, outFeatures: 3, device }), norm);
    const x = torch.randn([4, 3], { device });
    const expected = model.eval().forward(x);
    const before = numbers(norm.runningMean!);
    model.train();
    assert.deepEqual(freezeNorms(model), ['1']);
    assert.ok(isFrozen(norm));
    for (const mode of [true, false, true]) {
      model.train(mode);
      assertClose(model.forward(x), expected, { atol: 0, rtol: 0 });
    }
    // A batch of one is no trouble then.
    model.forward(x.narrow(0, 0, 1));
    assert.deepEqual(numbers(norm.runningMean!), before);
    assert.deepEqual(numbers(norm.numBatchesTracked!), [3]);
    assert.equal(model.training, true);
  });

  it('come back in the mode that was last asked for', () => {
    const norm = trained(new BatchNorm1d({ features: 3, device }));
    freezeNorms(norm);
    assert.deepEqual(unfreezeNorms(norm), ['']);
    assert.equal(norm.training, true);
    freezeNorms(norm);
    norm.eval();
    unfreezeNorms(norm);
    assert.equal(norm.training, false);
    norm.train();
    norm.forward(torch.randn([4, 3], { device }));
    assert.deepEqual(numbers(norm.numBatchesTracked!), [4]);
    assert.ok(!isFrozen(norm));
    assert.deepEqual(unfreezeNorms(norm), []);
  });

  it('hold for layers made of batch norm, and pass gradients as evaluation does', () => {
    const norm = new SplitBatchNorm1d({ features: 2, splits: 2, device, dtype: 'float64' });
    norm.forward(torch.randn([8, 2], { device, dtype: 'float64' }).add(2));
    freezeNorms(norm);
    const x = torch.randn([4, 2], { device, dtype: 'float64' }).requiresGrad_();
    norm.forward(x).sum().backward();
    const slope = norm.runningVar!.add(1e-5).rsqrt().expand([4, 2]);
    assertClose(x.grad!, slope, { atol: 1e-12 });
  });

  it('stop parameters on request, and start only those again that they stopped', () => {
    const model = new Sequential(
      trained(new BatchNorm1d({ features: 3, device })),
      new LayerNorm({ normalizedShape: 3, device }),
      new Linear({ inFeatures: 3, outFeatures: 3, device }),
    );
    const [batch, layer, linear] = model.namedChildren().values() as Iterable<BatchNorm1d> as [
      BatchNorm1d,
      LayerNorm,
      Linear,
    ];
    layer.bias!.requiresGrad_(false);
    model
      .forward(torch.randn([4, 3], { device }))
      .sum()
      .backward();
    assert.deepEqual(freezeNorms(model, { affine: true }), ['0', '1']);
    assert.deepEqual(
      [batch.weight, batch.bias, layer.weight].map((each) => each!.requiresGrad),
      [false, false, false],
    );
    assert.equal(batch.weight!.grad, null);
    assert.ok(linear.weight.requiresGrad);
    model
      .forward(torch.randn([4, 3], { device }))
      .sum()
      .backward();
    assert.equal(batch.weight!.grad, null);
    freezeNorms(model, { affine: true });
    unfreezeNorms(model);
    assert.deepEqual(
      [batch.weight, batch.bias, layer.weight, layer.bias].map((each) => each!.requiresGrad),
      [true, true, true, false],
    );
  });

  it('concern the norms that they are asked for', () => {
    const [one, two] = [
      trained(new BatchNorm1d({ features: 3, device })),
      trained(new BatchNorm1d({ features: 3, device })),
    ];
    const model = new Sequential(one, two, new FilterResponseNorm({ features: 3, device }));
    assert.deepEqual(freezeNorms(model, { where: (norm, path) => path === '1' && norm === two }), ['1']);
    assert.deepEqual([isFrozen(one), isFrozen(two)], [false, true]);
    assert.deepEqual(freezeNorms(model), ['0', '1']);
    assert.deepEqual(unfreezeNorms(model, { where: (_, path) => path === '0' }), ['0']);
    assert.deepEqual([isFrozen(one), isFrozen(two)], [false, true]);
  });

  it('leave instance norms without running statistics to their samples, and hold those with them', () => {
    const plain = new InstanceNorm1d({ features: 2, affine: true, device });
    assert.deepEqual(freezeNorms(plain), []);
    const tracking = new InstanceNorm1d({ features: 2, trackRunningStats: true, device });
    tracking.forward(torch.randn([2, 2, 5], { device }));
    freezeNorms(tracking);
    tracking.train().forward(torch.randn([2, 2, 5], { device }));
    assert.deepEqual(numbers(tracking.numBatchesTracked!), [1]);
  });

  it('take statistics of a checkpoint without a count', () => {
    const norm = new BatchNorm1d({ features: 2, device });
    norm.runningVar!.fill_(2);
    assert.deepEqual(freezeNorms(norm), ['']);
  });

  it('refuse norms without statistics, or whose statistics saw nothing, before anything changes', () => {
    const good = trained(new BatchNorm1d({ features: 3, device }));
    const fresh = new BatchNorm1d({ features: 3, device });
    assert.throws(
      () => freezeNorms(new Sequential(good, fresh), { affine: true }),
      /BatchNorm1d 1: its running statistics have seen no batch; train it or load its state/,
    );
    assert.ok(!isFrozen(good) && good.weight!.requiresGrad);
    const untracked = new BatchNorm1d({ features: 3, trackRunningStats: false, device });
    assert.throws(() => freezeNorms(untracked), /BatchNorm1d has no running statistics to be frozen with/);
  });
});
