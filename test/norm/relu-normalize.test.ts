import assert from 'node:assert/strict';
import { gradcheck, torch } from '../../src/torch';
import { orthogonalFrameDistance, ReluNormalize } from '../../src/norm/relu-normalize';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

describe('ReluNormalize', () => {
  const layer = new ReluNormalize();

  it('gives what is positive of each row, at length one', () => {
    const x = torch.tensor([[3, -1, 4], [-2, 0.5, -7], [-1, 0, -2]], { dtype, device }); // prettier-ignore
    const y = torch.tensor([[0.6, 0, 0.8], [0, 1, 0], [0, 0, 0]], { dtype, device }); // prettier-ignore
    assertClose(layer.forward(x), y, { atol: 1e-12 });
    assertClose(layer.eval().forward(x), y, { atol: 1e-12 });
  });

  it('passes the finite-difference check, and is kind to rows without a positive element', () => {
    const x = torch.randn([5, 4], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x]);
    const negative = torch.full([1, 3], -1, { device }).requiresGrad_();
    layer.forward(negative).sum().backward();
    assert.deepEqual(numbers(negative.grad!), [0, 0, 0]);
  });

  it('refuses other shapes and a negative eps', () => {
    assert.throws(
      () => layer.forward(torch.zeros([2, 3, 4])),
      /ReluNormalize: expected \[N, D\], found shape \[2, 3, 4\]/,
    );
    assert.throws(() => new ReluNormalize({ eps: -1 }), /eps/);
  });
});

describe('orthogonalFrameDistance', () => {
  it('is the formula over plain numbers', () => {
    const x = torch.randn([7, 3], { dtype, device });
    const labels = [4, 9, 4, 2, 9, 9, 2];
    const means = [4, 9, 2].map((label) => {
      const rows = labels.flatMap((own, row) => (own === label ? [numbers(x.at(row))] : []));
      return [0, 1, 2].map((d) => rows.reduce((sum, row) => sum + row[d]!, 0) / rows.length);
    });
    const gram = means.map((a) => means.map((b) => a.reduce((sum, value, d) => sum + value * b[d]!, 0)));
    const length = Math.hypot(...gram.flat());
    const expected = Math.hypot(
      ...gram.flatMap((row, i) => row.map((value, j) => value / length - (i === j ? 1 / Math.sqrt(3) : 0))),
    );
    const found = orthogonalFrameDistance(x, torch.tensor(labels, { dtype: 'int64', device }));
    assert.ok(Math.abs(found - expected) < 1e-12);
  });

  it('is zero for right angles, and largest where classes fall together', () => {
    const labels = torch.tensor([0, 1, 1, 2], { dtype: 'int64' });
    const frame = torch.tensor([[2, 0, 0], [0, 1, 1], [0, 3, -1], [0, 0, 2]], { dtype }); // prettier-ignore
    assert.ok(orthogonalFrameDistance(frame, labels) < 1e-12);
    const together = orthogonalFrameDistance(torch.ones([4, 3], { dtype }), labels);
    assert.ok(Math.abs(together - Math.sqrt(2 - 2 / Math.sqrt(3))) < 1e-12);
  });

  it('refuses labels that do not fit', () => {
    assert.throws(() => orthogonalFrameDistance(torch.ones([4, 3]), torch.zeros([3])), /found \[4, 3\] and \[3\]/);
  });
});
