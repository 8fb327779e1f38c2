import assert from 'node:assert/strict';
import { gradcheck, torch } from '../../src/torch';
import { GroupNorm } from '../../src/norm/group-norm';
import { InstanceNorm2d } from '../../src/norm/instance-norm2d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;

describe('GroupNorm', () => {
  for (const [shape, groups] of [
    [[3, 6, 5, 2], 3],
    [[2, 6, 7], 2],
    [[4, 6], 1],
    [[1, 6, 2, 1, 3], 6],
  ] as [number[], number][]) {
    it(`equals a loop over groups: [${shape.join(', ')}] in ${groups}`, () => {
      const layer = new GroupNorm({ features: 6, groups, eps: 1e-3, ...double });
      layer.weight!.detach().copy_(torch.randn([6], double));
      layer.bias!.detach().copy_(torch.randn([6], double));
      const [weight, bias] = [numbers(layer.weight!), numbers(layer.bias!)];
      const x = torch.randn(shape, double).add(1);
      const values = numbers(x);
      const positions = shape.slice(2).reduce((product, size) => product * size, 1);
      const size = (6 / groups) * positions;
      const expected = values.map((value, index) => {
        const group = values.slice(index - (index % size), index - (index % size) + size);
        const mean = group.reduce((a, b) => a + b) / size;
        const variance = group.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        const channel = Math.floor(index / positions) % 6;
        return ((value - mean) / Math.sqrt(variance + 1e-3)) * weight[channel]! + bias[channel]!;
      });
      assertClose(layer.forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
      assertClose(layer.eval().forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
    });
  }

  it('passes the finite-difference check', () => {
    const layer = new GroupNorm({ features: 4, groups: 2, ...double });
    const x = torch.randn([2, 4, 2, 2], double).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
  });

  it('is instance normalisation with as many groups as channels', () => {
    const x = torch.randn([2, 3, 4, 4], double);
    const layer = new GroupNorm({ features: 3, groups: 3, ...double });
    assertClose(layer.forward(x), new InstanceNorm2d({ features: 3, ...double }).forward(x), { atol: 1e-12 });
  });

  it('does not cancel where the mean is large, in either memory format', () => {
    const x = torch.randn([5, 4, 7, 9], double).mul(0.1);
    const layer = new GroupNorm({ features: 4, groups: 2, eps: 0, ...double });
    const expected = layer.forward(x);
    const shifted = x.add(1e4);
    assertClose(layer.forward(shifted), expected, { atol: 1e-8, rtol: 1e-6 });
    const last = shifted.contiguous({ memoryFormat: 'channels_last' });
    assertClose(layer.forward(last), expected, { atol: 1e-8, rtol: 1e-6 });
  });

  it('gives the same in channels-last memory, and keeps it', () => {
    const x = torch.randn([2, 4, 3, 5], { device });
    const layer = new GroupNorm({ features: 4, groups: 2, device });
    const y = layer.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assert.ok(y.isContiguous('channels_last'));
    assertClose(y, layer.forward(x), { atol: 1e-5 });
  });

  it("has PyTorch's names in its state, and only what it was asked for", () => {
    const names = (options: object) => [...new GroupNorm({ features: 4, groups: 2, ...options }).stateDict().keys()];
    assert.deepEqual(names({}), ['weight', 'bias']);
    assert.deepEqual(names({ bias: false }), ['weight']);
    assert.deepEqual(names({ affine: false }), []);
  });

  it('refuses groups that do not divide, shapes that do not fit, one value a group, and on request what is not finite', () => {
    assert.throws(
      () => new GroupNorm({ features: 10, groups: 4 }),
      /GroupNorm: 4 groups do not divide 10 channels evenly/,
    );
    const layer = new GroupNorm({ features: 4, groups: 4, nonFinite: 'raise', device });
    assert.throws(
      () => layer.forward(torch.zeros([2, 3, 5], { device })),
      /expected \[N, 4, …\], found .* \[2, 3, 5\]/,
    );
    assert.throws(() => layer.forward(torch.zeros([4], { device })), /found an input of shape \[4\]/);
    assert.throws(() => layer.forward(torch.zeros([9, 4, 1], { device })), /has one value a group/);
    assert.throws(() => layer.forward(torch.full([2, 4, 3], Infinity, { device })), /holds infinity/);
  });
});
