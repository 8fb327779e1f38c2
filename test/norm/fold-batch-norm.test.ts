import assert from 'node:assert/strict';
import { manualSeed, noGrad, torch, type Tensor } from '../../src/torch';
import { Conv2d, Identity, Linear, Module, ReLU, Sequential } from '../../src/nn';
import { ResNet18, ResidualEncoder } from '../../src/models';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { ConvBN2d } from '../../src/norm/conv-bn2d';
import { foldBatchNorm } from '../../src/norm/fold-batch-norm';
import { ScaledWeightStandardizedConv2d } from '../../src/norm/scaled-weight-standardized-conv2d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { fill } from '../support/residual';

const dtype = 'float64';
const at = { device, dtype } as const;
const tolerance = 1e-10;
const filled = <M extends Module>(model: M): M => {
  model.to(at);
  fill(model, 11);
  return model;
};
const norms = (model: Module) => model.modules().filter((module) => module instanceof BatchNorm2d);

/** Uses what its convolution gives twice. */
class Leaky extends Module {
  readonly conv1 = new Conv2d({ inChannels: 2, outChannels: 2, kernelSize: 1, ...at });
  readonly bn1 = new BatchNorm2d({ features: 2, ...at });

  override forward(x: Tensor): Tensor {
    const y = this.conv1.forward(x);
    return this.bn1.forward(y).add(y);
  }
}

/** Calls one norm on what two layers give. */
class Shared extends Module {
  readonly one = new Linear({ inFeatures: 2, outFeatures: 2, ...at });
  readonly two = new Linear({ inFeatures: 2, outFeatures: 2, ...at });
  readonly between = new BatchNorm1d({ features: 2, ...at });

  override forward(x: Tensor): Tensor {
    return this.between.forward(this.one.forward(x)).add(this.between.forward(this.two.forward(x)));
  }
}

describe('foldBatchNorm', () => {
  for (const byInput of [true, false]) {
    it(`folds every norm of an encoder: ${byInput ? 'by an input' : 'by structure'}`, () => {
      const model = filled(new ResidualEncoder({ inChannels: 2, widths: [4, 6] }));
      const x = torch.randn([3, 2, 8, 8], at);
      const expected = model.eval().forward(x);
      const { model: same, folded, kept, difference } = foldBatchNorm(model, byInput ? { check: x, tolerance } : {});
      assert.equal(same, model);
      assert.equal(folded.length, 6);
      assert.ok(folded.includes('stages.1.0.downsample.0'));
      assert.deepEqual([norms(model).length, kept.length], [0, 0]);
      assert.ok(byInput ? difference! < tolerance : difference === null);
      assertClose(model.forward(x), expected, { atol: 1e-10 });
      assertClose(model.train().forward(x), expected, { atol: 1e-10 }, 'in training mode');
      assert.ok(!model.namedParameters().has('bn1.weight'));
    });
  }

  it('folds a ResNet-18 in float32, and leaves the random numbers alone', () => {
    const model = new ResNet18({ smallImage: true, inChannels: 1 }).to({ device });
    fill(model, 3);
    manualSeed(4);
    const expected = numbers(torch.rand([3]));
    manualSeed(4);
    const { folded, difference } = foldBatchNorm(model, { check: torch.ones([1, 1, 8, 8], { device }) });
    assert.equal(folded.length, 20);
    assert.ok(difference! < 1e-4);
    assert.deepEqual(numbers(torch.rand([3])), expected);
  });

  it('folds linear layers, biases, missing affine parameters and standardised weights in a Sequential', () => {
    const convs = new Sequential(
      new ScaledWeightStandardizedConv2d({ inChannels: 1, outChannels: 4, kernelSize: 3, ...at }),
      new BatchNorm2d({ features: 4, affine: false, ...at }),
      new ReLU(),
      new ConvBN2d({ inChannels: 4, outChannels: 2, kernelSize: 2, ...at }),
    );
    const x = torch.randn([5, 1, 6, 6], at);
    const moved = (model: Module, input: Tensor) => {
      for (let step = 0; step < 3; step++) model.forward(input).dispose();
      return model.eval().forward(input);
    };
    const expected = moved(convs, x);
    const folded = foldBatchNorm(convs, { check: x, tolerance });
    assert.equal(folded.model, convs);
    assert.deepEqual(folded.folded, ['0', '3']);
    assert.deepEqual(
      [...folded.model].map(({ constructor }) => constructor.name),
      ['Conv2d', 'Identity', 'ReLU', 'Conv2d'],
    );
    assertClose(folded.model.forward(x), expected, { atol: 1e-10 });

    const head = new Sequential(
      new Linear({ inFeatures: 3, outFeatures: 4, ...at }),
      new BatchNorm1d({ features: 4, ...at }),
    );
    noGrad(() => head.parameters().forEach((parameter) => parameter.copy_(torch.randn(parameter.shape, at))));
    const rows = torch.randn([6, 3], at);
    const linear = moved(head, rows);
    assertClose(foldBatchNorm(head).model.forward(rows), linear, { atol: 1e-10 });
  });

  it('keeps channels-last weights so', () => {
    const model = new Sequential(
      new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, device }),
      new BatchNorm2d({ features: 4, device }),
    ).to({ memoryFormat: 'channels_last' });
    const [conv] = [...foldBatchNorm(model).model];
    assert.ok((conv as Conv2d).weight.isContiguous('channels_last'));
  });

  it('refuses an output that is used elsewhere too, before anything changes', () => {
    const model = new Leaky();
    model.bn1.runningVar!.fill_(4);
    assert.throws(
      () => foldBatchNorm(model, { check: torch.randn([3, 2, 4, 4], at) }),
      /the output differs by .* or what it is given is used elsewhere too/,
    );
    assert.ok(model.bn1 instanceof BatchNorm2d);
    assert.equal(model.training, true);
    assert.ok(!Object.hasOwn(model.conv1, 'forward'));
  });

  it('refuses or keeps norms that follow no one layer', () => {
    const x = torch.randn([3, 2], at);
    assert.throws(() => foldBatchNorm(new Shared(), { check: x }), /between: it or what it follows is called 2 times/);
    assert.throws(() => foldBatchNorm(new Shared()), /between: follows no convolution or linear layer/);
    const shared = new Shared();
    assert.deepEqual(foldBatchNorm(shared, { unpaired: 'keep' }).kept, ['between']);
    assert.ok(shared.between instanceof BatchNorm1d);
    const conv = () => new Conv2d({ inChannels: 2, outChannels: 2, kernelSize: 1 });
    const refused = (model: Module, problem: RegExp) => assert.throws(() => foldBatchNorm(model), problem);
    refused(new Sequential(conv(), new ReLU(), new BatchNorm2d({ features: 2 })), /2: follows a ReLU/);
    refused(new Sequential(conv(), new BatchNorm2d({ features: 4 })), /has 4 features, but what it follows gives 2/);
    refused(
      new Sequential(conv(), new BatchNorm2d({ features: 2, trackRunningStats: false })),
      /1: keeps no running statistics/,
    );
    const twice = conv();
    refused(new Sequential(twice, new BatchNorm2d({ features: 2 }), twice), /1: stands in several places/);
  });

  it('leaves a model without norms as it is', () => {
    const model = new Sequential(new Identity());
    const { model: same, folded } = foldBatchNorm(model, { check: torch.ones([2]) });
    assert.equal(same, model);
    assert.deepEqual([numbers(same.forward(torch.ones([2]))), folded], [[1, 1], []]);
  });
});
