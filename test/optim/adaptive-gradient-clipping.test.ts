import assert from 'node:assert/strict';
import { torch, type DType, type Tensor } from '../../src/torch';
import { Linear, Parameter, Sequential } from '../../src/nn';
import { adaptiveGradientClipping } from '../../src/optim/adaptive-gradient-clipping';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

function parameterOf(value: Tensor, gradient: Tensor): Parameter {
  const parameter = new Parameter(value);
  parameter.grad = gradient;
  return parameter;
}

const random = (shape: number[], dtype: DType = 'float64') =>
  parameterOf(torch.randn(shape, { device }).to({ dtype }), torch.randn(shape, { device }).to({ dtype }));

/** By plain numbers, `units` units of equal size one after another. */
function expected({ grad, shape }: Parameter, values: Tensor, units: number, clipping: number, eps: number): Tensor {
  const [weights, gradient] = [numbers(values), numbers(grad!)];
  const size = weights.length / units;
  const norm = (list: number[], unit: number) => Math.hypot(...list.slice(unit * size, (unit + 1) * size));
  const clipped = gradient.map((value, index) => {
    const unit = Math.floor(index / size);
    const limit = clipping * Math.max(norm(weights, unit), eps);
    const length = norm(gradient, unit);
    return length > limit ? (value * limit) / length : value;
  });
  return torch.tensor(clipped, { dtype }).view(shape);
}

describe('adaptiveGradientClipping', () => {
  for (const [shape, units] of [
    [[4, 3], 4],
    [[5, 2, 3], 5],
    [[3, 2, 2, 3], 3],
    [[6], 1],
    [[6, 1], 1],
    [[], 1],
  ] as [number[], number][]) {
    it(`clips each unit of [${shape.join(', ')}]`, () => {
      const parameter = random(shape);
      // A ratio that clips some units and not others.
      const before = expected(parameter, parameter, units, 0.9, 0.5);
      adaptiveGradientClipping([parameter], { clipping: 0.9, eps: 0.5 });
      assertClose(parameter.grad!, before, { atol: 1e-12 });
    });
  }

  it('has the defaults of the paper', () => {
    const parameter = random([4, 3]);
    parameter.detach().select(0, 1).zero_();
    const before = expected(parameter, parameter, 4, 0.01, 1e-3);
    adaptiveGradientClipping([parameter]);
    assertClose(parameter.grad!, before, { atol: 1e-15 });
    assert.ok(Math.abs(parameter.grad!.select(0, 1).norm().itemSync() - 1e-5) < 1e-12);
  });

  it('leaves small gradients, zero gradients, what is excluded and what has none alone', () => {
    const small = parameterOf(torch.ones([2, 2], { device }), torch.full([2, 2], 1e-4, { device }));
    const zero = parameterOf(torch.zeros([3], { device }), torch.zeros([3], { device }));
    const none = new Parameter(torch.ones([2], { device }));
    adaptiveGradientClipping([small, zero, none]);
    assertClose(small.grad!, torch.full([2, 2], 1e-4), { atol: 0 });
    assert.deepEqual([numbers(zero.grad!), none.grad], [[0, 0, 0], null]);
    const model = new Sequential({
      body: new Linear({ inFeatures: 2, outFeatures: 2, device }),
      head: new Linear({ inFeatures: 2, outFeatures: 2, device }),
    });
    for (const parameter of model.parameters()) parameter.grad = torch.ones(parameter.shape, { device });
    adaptiveGradientClipping(model.namedParameters(), { exclude: (_, name) => name.startsWith('head.') });
    const [body, head] = ['body.weight', 'head.weight'].map((name) => model.namedParameters().get(name)!.grad!);
    assert.deepEqual(numbers(head!), [1, 1, 1, 1]);
    assert.ok(Math.max(...numbers(body!)) < 0.1);
  });

  it('works in bfloat16 and for channels-last weights', () => {
    const half = random([3, 4], 'bfloat16');
    const before = expected(half, half, 3, 0.01, 1e-3);
    adaptiveGradientClipping([half]);
    assert.equal(half.grad!.dtype, 'bfloat16');
    assertClose(half.grad!.to({ dtype }), before, { atol: 0, rtol: 1e-2 });
    const last = random([3, 2, 2, 2]);
    const expectedLast = expected(last, last, 3, 0.01, 1e-3);
    last.grad = last.grad!.contiguous({ memoryFormat: 'channels_last' });
    adaptiveGradientClipping([last]);
    assertClose(last.grad, expectedLast, { atol: 1e-12 });
  });

  it('does not hide a gradient that is not finite', () => {
    const parameter = parameterOf(torch.ones([2, 2], { device }), torch.tensor([[NaN, 1], [1, 1]], { device })); // prettier-ignore
    adaptiveGradientClipping([parameter]);
    const [a, b, c] = numbers(parameter.grad!);
    assert.ok(Number.isNaN(a) && Number.isNaN(b) && c! > 0);
  });

  it('refuses a negative ratio, before anything changes', () => {
    const parameter = random([2, 2]);
    const before = numbers(parameter.grad!);
    assert.throws(
      () => adaptiveGradientClipping([parameter], { clipping: -1 }),
      /clipping must be a number of at least 0/,
    );
    assert.deepEqual(numbers(parameter.grad!), before);
  });
});
