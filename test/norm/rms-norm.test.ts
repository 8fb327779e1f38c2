import assert from 'node:assert/strict';
import { gradcheck, torch } from '../../src/torch';
import { RMSNorm } from '../../src/norm/rms-norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;

describe('RMSNorm', () => {
  it('equals a loop over samples', () => {
    const layer = new RMSNorm({ normalizedShape: [3, 1], eps: 1e-2, ...double });
    layer.weight!.detach().copy_(torch.tensor([0.5, -2, 3], double).view([3, 1]));
    const x = torch.randn([2, 5, 3, 1], double);
    const values = numbers(x);
    const expected = values.map((value, index) => {
      const sample = values.slice(index - (index % 3), index - (index % 3) + 3);
      const square = sample.reduce((a, b) => a + b * b, 0) / 3;
      return (value / Math.sqrt(square + 1e-2)) * [0.5, -2, 3][index % 3]!;
    });
    assertClose(layer.forward(x), torch.tensor(expected, double).view(x.shape), { atol: 1e-10 });
    assertClose(layer.eval().forward(x), torch.tensor(expected, double).view(x.shape), { atol: 1e-10 });
  });

  it('passes the finite-difference check', () => {
    const layer = new RMSNorm({ normalizedShape: 4, ...double });
    gradcheck((input) => layer.forward(input), [torch.randn([3, 4], double).requiresGrad_(), layer.weight!]);
  });

  it("adds the dtype's own epsilon by default", () => {
    // Mean square 14e-8 / 3, near float32's epsilon 1.1920929e-7.
    const layer = new RMSNorm({ normalizedShape: 3, device });
    const values = [1e-4, 2e-4, -3e-4];
    const by = (eps: number) => values.map((value) => value / Math.sqrt(14e-8 / 3 + eps));
    assertClose(layer.forward(torch.tensor(values, { device })), torch.tensor(by(2 ** -23), { device }), {
      rtol: 1e-5,
    });
    layer.to('float64');
    assertClose(layer.forward(torch.tensor(values, double)), torch.tensor(by(2 ** -52), double), { rtol: 1e-12 });
  });

  it("has PyTorch's names in its state, and only what it was asked for", () => {
    assert.deepEqual([...new RMSNorm({ normalizedShape: 3 }).stateDict().keys()], ['weight']);
    assert.deepEqual([...new RMSNorm({ normalizedShape: 3, affine: false }).stateDict().keys()], []);
  });

  it('refuses shapes that do not fit, and on request what is not finite', () => {
    const layer = new RMSNorm({ normalizedShape: 3, nonFinite: 'raise', device });
    assert.throws(() => layer.forward(torch.zeros([3, 2], { device })), /RMSNorm: expected a shape that ends in \[3\]/);
    assert.throws(
      () => layer.forward(torch.tensor([1, -Infinity, 0], { device })),
      /RMSNorm: the input of shape \[3\] holds infinity/,
    );
    assert.throws(() => new RMSNorm({ normalizedShape: 3, eps: NaN }), /RMSNorm: eps/);
  });
});
