import assert from 'node:assert/strict';
import { autocast, gradcheck, torch } from '../../src/torch';
import { LayerNorm } from '../../src/norm/layer-norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;

describe('LayerNorm', () => {
  for (const [shape, normalizedShape] of [
    [[5, 7], 7],
    [
      [2, 3, 5, 1],
      [5, 1],
    ],
    [[4], [4]],
  ] as [number[], number | number[]][]) {
    it(`equals a loop over samples: [${shape.join(', ')}] over ${JSON.stringify(normalizedShape)}`, () => {
      const layer = new LayerNorm({ normalizedShape, eps: 1e-3, ...double });
      const size = layer.weight!.numel();
      layer.weight!.detach().copy_(torch.randn(layer.normalizedShape, double));
      layer.bias!.detach().copy_(torch.randn(layer.normalizedShape, double));
      const [weight, bias] = [numbers(layer.weight!), numbers(layer.bias!)];
      const x = torch.randn(shape, double).add(3);
      const values = numbers(x);
      const expected = values.map((value, index) => {
        const sample = values.slice(index - (index % size), index - (index % size) + size);
        const mean = sample.reduce((a, b) => a + b) / size;
        const variance = sample.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        return ((value - mean) / Math.sqrt(variance + 1e-3)) * weight[index % size]! + bias[index % size]!;
      });
      const tolerance = { atol: 1e-10 };
      assertClose(layer.forward(x), torch.tensor(expected, double).view(shape), tolerance, 'training');
      assertClose(layer.eval().forward(x), torch.tensor(expected, double).view(shape), tolerance, 'evaluation');
    });
  }

  it('passes the finite-difference check', () => {
    const layer = new LayerNorm({ normalizedShape: [3, 2], ...double });
    const x = torch.randn([2, 3, 2], double).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
  });

  it('does not cancel where the mean is large', () => {
    const x = torch.randn([6, 50], double).mul(0.1);
    const layer = new LayerNorm({ normalizedShape: 50, eps: 0, ...double });
    assertClose(layer.forward(x.add(1e4)), layer.forward(x), { atol: 1e-8, rtol: 1e-6 });
  });

  it("has PyTorch's names in its state, and only what it was asked for", () => {
    const names = (options: object) => [...new LayerNorm({ normalizedShape: 3, ...options }).stateDict().keys()];
    assert.deepEqual(names({}), ['weight', 'bias']);
    assert.deepEqual(names({ bias: false }), ['weight']);
    assert.deepEqual(names({ affine: false }), []);
  });

  it('takes bfloat16 inputs, with float32 parameters under autocast, and in a layer converted to it', () => {
    const layer = new LayerNorm({ normalizedShape: 8, device });
    const x = torch.randn([4, 8], { device });
    const expected = layer.forward(x);
    const low = x.to('bfloat16');
    for (const y of [autocast({ device }, () => layer.forward(low)), layer.to('bfloat16').forward(low)]) {
      assertClose(y.to('float32'), expected, { atol: 0.03, rtol: 0.02 });
    }
    assert.equal(layer.forward(low).dtype, 'bfloat16');
  });

  it('refuses shapes that do not fit, a single value, and on request what is not finite', () => {
    const layer = new LayerNorm({ normalizedShape: [2, 3], nonFinite: 'raise', device });
    assert.throws(
      () => layer.forward(torch.zeros([2, 3, 2], { device })),
      /LayerNorm: expected a shape that ends in \[2, 3\], found \[2, 3, 2\]/,
    );
    assert.throws(() => layer.forward(torch.zeros([3], { device })), /found \[3\]/);
    assert.throws(() => layer.forward(torch.full([2, 3], NaN, { device })), /LayerNorm: the input .* holds NaN/);
    assert.throws(() => new LayerNorm({ normalizedShape: [1, 1] }), /is one value, which has no variance/);
    assert.throws(() => new LayerNorm({ normalizedShape: [] }), /needs at least one size/);
    assert.throws(() => new LayerNorm({ normalizedShape: 0 }), /positive|at least 1/);
    assert.throws(() => new LayerNorm({ normalizedShape: 3, eps: -1 }), /LayerNorm: eps/);
  });
});
