import assert from 'node:assert/strict';
import { InvalidArgumentError, memory, scope, torch, type Tensor } from '../../src/torch';
import { Conv2d, Dropout, Linear, Module, Parameter, ReLU, Sequential } from '../../src/nn';
import { BatchNorm2d } from '../../src/norm';
import { numbers } from '../support/close';
import { device } from '../support/device';

class Scaled extends Module {
  readonly innerLayer = new Linear({ inFeatures: 2, outFeatures: 2, device });
  readonly scaleFactor = new Parameter(torch.ones([1], { device }));
  readonly callCount: Tensor;
  readonly scratch: Tensor;
  readonly absent: Tensor | null;

  constructor() {
    super();
    this.callCount = this.registerBuffer('callCount', torch.zeros([], { dtype: 'int64', device }));
    this.scratch = this.registerBuffer('scratch', torch.zeros([2], { device }), { persistent: false });
    this.absent = this.registerBuffer('absent', null);
  }

  override forward(x: Tensor): Tensor {
    return this.innerLayer.forward(x).mul(this.scaleFactor);
  }
}

describe('Module', () => {
  it('finds parameters, buffers and children by their properties', () => {
    const module = new Scaled();
    assert.deepEqual([...module.namedParameters().keys()], ['scale_factor', 'inner_layer.weight', 'inner_layer.bias']);
    assert.deepEqual([...module.namedBuffers().keys()], ['call_count', 'scratch']);
    assert.deepEqual([...module.namedModules().keys()], ['', 'inner_layer']);
    assert.deepEqual(
      [...module.stateDict('net.').keys()],
      ['net.scale_factor', 'net.call_count', 'net.inner_layer.weight', 'net.inner_layer.bias'],
    );
  });

  it('replaces a child in all properties that hold it', () => {
    class Twice extends Module {
      convOne: Module = new Linear({ inFeatures: 1, outFeatures: 1, device });
      again = this.convOne;
      override forward(x: Tensor): Tensor {
        return this.again.forward(this.convOne.forward(x));
      }
    }
    const model = new Twice();
    const other = new Linear({ inFeatures: 1, outFeatures: 1, bias: false, device });
    model.replaceChild('conv_one', other);
    assert.equal(model.convOne, other);
    assert.equal(model.again, other);
    assert.throws(() => model.replaceChild('convOne', other), /Twice holds no child 'convOne'/);
  });

  it('lives beyond the scope it was made in', () => {
    const module = scope(() => new Scaled());
    assert.ok(module.parameters().every((parameter) => !parameter.isDisposed));
    assert.ok(!module.callCount.isDisposed);
    assert.deepEqual(module.forward(torch.ones([1, 2], { device })).shape, [1, 2]);
  });

  it('gives shared parameters once, and both names in the state dict', () => {
    const shared = new Linear({ inFeatures: 2, outFeatures: 2 });
    const module = new Sequential(shared, new ReLU(), shared);
    assert.equal(module.parameters().length, 2);
    assert.deepEqual([...module.stateDict().keys()], ['0.weight', '0.bias', '2.weight', '2.bias']);
  });

  it('switches modes all the way down', () => {
    const module = new Sequential(new Dropout(), new Sequential(new Dropout()));
    module.eval();
    assert.ok(module.modules().every((part) => !part.training));
    module.train();
    assert.ok(module.modules().every((part) => part.training));
  });

  it('applies children first', () => {
    const order: string[] = [];
    new Sequential(new ReLU(), new Sequential(new Dropout())).apply((part) => order.push(part.constructor.name));
    assert.deepEqual(order, ['ReLU', 'Dropout', 'Sequential', 'Sequential']);
  });

  it('converts floating-point tensors in place and leaves integers', () => {
    const module = new Scaled();
    const { weight } = module.innerLayer;
    module
      .forward(torch.ones([1, 2], { device }))
      .sum()
      .backward();
    module.to('float64');
    assert.equal(module.innerLayer.weight, weight);
    assert.equal(weight.dtype, 'float64');
    assert.equal(weight.grad?.dtype, 'float64');
    assert.ok(weight.requiresGrad && weight.isLeaf);
    assert.equal(module.callCount.dtype, 'int64');
    module.zeroGrad();
    module
      .forward(torch.ones([1, 2], { dtype: 'float64', device }))
      .sum()
      .backward();
    assert.equal(weight.grad?.dtype, 'float64');
    assert.throws(() => module.to('int32'), /need a floating-point dtype, found int32/);
  });

  it('moves between devices in place', () => {
    const module = new Scaled().to('cpu');
    const { weight } = module.innerLayer;
    module.to({ device });
    assert.equal(module.innerLayer.weight, weight);
    const tensors = [...module.parameters(), ...module.namedBuffers().values()];
    assert.ok(tensors.every((tensor) => tensor.device.startsWith(device)));
  });

  it('puts the weights of convolutions, and nothing else, in channels-last order', () => {
    const module = new Sequential(
      new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3 }),
      new BatchNorm2d({ features: 4 }),
    ).to({ memoryFormat: 'channels_last' });
    assert.deepEqual(module.parameters()[0]!.strides, [27, 1, 9, 3]);
    assert.deepEqual(module.parameters()[2]!.strides, [1]);
  });

  it('round-trips its state', () => {
    const [a, b] = [new Scaled(), new Scaled()];
    a.callCount.fill_(7);
    assert.deepEqual(b.loadStateDict(a.stateDict()), { missing: [], unexpected: [] });
    for (const [name, tensor] of b.stateDict()) assert.deepEqual(numbers(tensor), numbers(a.stateDict().get(name)!));
    assert.ok(b.innerLayer.weight.requiresGrad && b.innerLayer.weight.isLeaf);
  });

  it('loads plain objects and other dtypes', () => {
    const module = new Linear({ inFeatures: 1, outFeatures: 1, device });
    module.loadStateDict({
      weight: torch.tensor([[2]], { dtype: 'float64' }),
      bias: torch.tensor([3], { dtype: 'float64' }),
    });
    assert.deepEqual([numbers(module.weight), module.weight.dtype], [[2], 'float32']);
  });

  it('lists everything that does not fit, before it changes anything', () => {
    const module = new Scaled();
    const before = numbers(module.scaleFactor);
    const state = module.stateDict();
    state.delete('call_count');
    state.set('scale_factor', torch.full([1], 9));
    state.set('extra', torch.zeros([1]));
    state.set('inner_layer.weight', torch.zeros([3, 2]));
    assert.throws(
      () => module.loadStateDict(state),
      (error: unknown) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, /does not fit this Scaled/);
        assert.match(error.message, /missing: call_count/);
        assert.match(error.message, /unexpected: extra/);
        assert.match(error.message, /inner_layer\.weight: has shape \[2, 2\], found \[3, 2\]/);
        return true;
      },
    );
    assert.deepEqual(numbers(module.scaleFactor), before);
    state.delete('inner_layer.weight');
    assert.deepEqual(module.loadStateDict(state, { strict: false }), {
      missing: ['call_count', 'inner_layer.weight'],
      unexpected: ['extra'],
    });
    assert.deepEqual(numbers(module.scaleFactor), [9]);
  });

  it('freezes, and forgets gradients', () => {
    const module = new Linear({ inFeatures: 2, outFeatures: 1, device });
    module
      .forward(torch.ones([1, 2], { device }))
      .sum()
      .backward();
    assert.ok(module.weight.grad !== null);
    module.zeroGrad();
    assert.equal(module.weight.grad, null);
    module.requiresGrad_(false);
    assert.ok(!module.forward(torch.ones([1, 2], { device })).requiresGrad);
  });

  it('frees its tensors', () => {
    const before = memory().liveTensors;
    const module = scope(() => new Scaled());
    assert.equal(memory().liveTensors, before + 5);
    module.dispose();
    assert.equal(memory().liveTensors, before);
  });
});
