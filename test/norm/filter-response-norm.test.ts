import assert from 'node:assert/strict';
import { grad, gradcheck, torch, type Tensor } from '../../src/torch';
import { FilterResponseNorm } from '../../src/norm/filter-response-norm';
import { assertClose, largestDifference, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;

function filled(options: object = {}): FilterResponseNorm {
  const layer = new FilterResponseNorm({ features: 3, eps: 1e-3, ...double, ...options });
  layer.weight.detach().copy_(torch.tensor([0.5, -2, 1.5], double));
  layer.bias.detach().copy_(torch.tensor([1, 0, -0.5], double));
  layer.threshold?.detach().copy_(torch.tensor([-0.3, 0.2, 0.1], double));
  layer.learnedEps?.detach().copy_(torch.tensor([0.1, -0.2, 0.3], double));
  return layer;
}

describe('FilterResponseNorm', () => {
  for (const shape of [
    [2, 3, 5, 3],
    [3, 3, 7],
    [2, 3, 1, 2, 3],
    [5, 3],
  ]) {
    for (const options of [{}, { learnableEps: true }, { threshold: false }]) {
      it(`equals a loop over channels of samples: [${shape.join(', ')}], ${JSON.stringify(options)}`, () => {
        const layer = filled(options);
        const x = torch.randn(shape, double);
        const values = numbers(x);
        const size = shape.slice(2).reduce((product, side) => product * side, 1);
        const expected = values.map((value, index) => {
          const map = values.slice(index - (index % size), index - (index % size) + size);
          const channel = Math.floor(index / size) % 3;
          const eps = 1e-3 + (layer.learnedEps === null ? 0 : [0.1, 0.2, 0.3][channel]!);
          const square = map.reduce((a, b) => a + b * b, 0) / size;
          const y = (value / Math.sqrt(square + eps)) * [0.5, -2, 1.5][channel]! + [1, 0, -0.5][channel]!;
          return layer.threshold === null ? y : Math.max(y, [-0.3, 0.2, 0.1][channel]!);
        });
        assertClose(layer.forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
        assertClose(layer.eval().forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
      });

      it(`passes the finite-difference check: [${shape.join(', ')}], ${JSON.stringify(options)}`, () => {
        const layer = filled(options);
        const x = torch.randn(shape, double).requiresGrad_();
        gradcheck((input) => layer.forward(input), [x, ...layer.parameters()]);
      });
    }
  }

  it('gives the same in channels-last memory, gradients too, and keeps it', () => {
    const x = torch.randn([2, 3, 5, 4], double).requiresGrad_();
    const last = x.detach().contiguous({ memoryFormat: 'channels_last' }).requiresGrad_();
    const gradient = torch.randn([2, 3, 5, 4], double);
    const [layer, other] = [filled(), filled()];
    const y = layer.forward(x);
    const z = other.forward(last);
    y.backward(gradient);
    z.backward(gradient);
    assert.ok(z.isContiguous('channels_last'));
    assertClose(z, y, { atol: 1e-12 });
    assertClose(last.grad!, x.grad!, { atol: 1e-12 });
    assertClose(other.weight.grad!, layer.weight.grad!, { atol: 1e-12 });
  });

  for (const memoryFormat of ['contiguous_format', 'channels_last'] as const) {
    it(`equals the dense formula and its gradients on a large activation, ${memoryFormat}`, () => {
      const layer = filled({ learnableEps: true });
      // More than is worked on at a time, and not a multiple of it.
      const x = torch.randn([3, 3, 256, 256], double).contiguous({ memoryFormat }).requiresGrad_();
      const gradient = torch.randn([3, 3, 256, 256], double);
      const wide = (values: Tensor): Tensor => values.view([1, 3, 1, 1]);
      const eps = wide(layer.learnedEps!).abs().add(1e-3);
      const y = x
        .div(x.square().mean([2, 3], true).add(eps).sqrt())
        .mul(wide(layer.weight))
        .add(wide(layer.bias));
      const z = y.maximum(wide(layer.threshold!));
      const inputs = [x, ...layer.parameters()];
      const expected = grad(z, inputs, { gradOutputs: [gradient] });
      const output = layer.forward(x);
      assert.ok(largestDifference(output, z) < 1e-10);
      grad(output, inputs, { gradOutputs: [gradient] }).forEach((found, index) => {
        const scale = expected[index]!.abs().max().itemSync();
        assert.ok(largestDifference(found!, expected[index]!) < 1e-10 * scale, `gradient ${index}`);
      });
    });
  }

  it('takes bfloat16 activations with float32 parameters, and computes in float32', () => {
    const layer = filled({ dtype: 'float32' });
    const low = torch.randn([2, 3, 8, 8], { device }).to('bfloat16').requiresGrad_();
    const high = low.detach().to('float32').requiresGrad_();
    const [y, z] = [layer.forward(low), layer.forward(high)];
    assert.equal(y.dtype, 'bfloat16');
    // Rounded once, at the end.
    assert.deepEqual(numbers(y), numbers(z.to('bfloat16')));
    const gradient = torch.randn([2, 3, 8, 8], { device }).to('bfloat16');
    const [found] = grad(y, [low, layer.weight], { gradOutputs: [gradient] }) as [Tensor, Tensor];
    const [expected] = grad(z, [high, layer.weight], { gradOutputs: [gradient.to('float32')] }) as [Tensor, Tensor];
    assert.equal(found.dtype, 'bfloat16');
    assertClose(found.to('float32'), expected, { atol: 1e-3, rtol: 2 ** -8 });
  });

  it('gives the gradient of a tie to the threshold', () => {
    const layer = new FilterResponseNorm({ features: 1, ...double });
    const x = torch.zeros([1, 1, 4], double).requiresGrad_();
    layer.forward(x).sum().backward();
    assert.deepEqual(
      [layer.threshold!, layer.bias].flatMap((parameter) => numbers(parameter.grad!)),
      [4, 0],
    );
  });

  it('converts, and resumes from its state', () => {
    const layer = filled({ learnableEps: true });
    assert.deepEqual([...layer.stateDict().keys()], ['weight', 'bias', 'threshold', 'learned_eps']);
    const x = torch.randn([2, 3, 4], double);
    const resumed = new FilterResponseNorm({ features: 3, eps: 1e-3, learnableEps: true, ...double });
    resumed.loadStateDict(layer.stateDict());
    assert.deepEqual(numbers(resumed.forward(x)), numbers(layer.forward(x)));
    assertClose(layer.to('float32').forward(x.to('float32')).to('float64'), resumed.forward(x), { atol: 1e-5 });
  });

  it('refuses shapes that do not fit, second derivatives, and on request what is not finite', () => {
    const layer = new FilterResponseNorm({ features: 3, nonFinite: 'raise', device });
    assert.throws(() => layer.forward(torch.zeros([2, 4, 5], { device })), /FilterResponseNorm: expected \[N, 3, …\]/);
    assert.throws(() => layer.forward(torch.full([2, 3, 5], NaN, { device })), /holds NaN/);
    const x = torch.randn([2, 3, 5], { device }).requiresGrad_();
    assert.throws(() => grad(layer.forward(x).sum(), x, { createGraph: true }), /no gradients of gradients/);
    assert.throws(() => new FilterResponseNorm({ features: 0 }), /FilterResponseNorm: features/);
  });
});
