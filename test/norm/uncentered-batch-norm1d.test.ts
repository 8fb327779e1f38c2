import assert from 'node:assert/strict';
import { grad, gradcheck, noGrad, torch } from '../../src/torch';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { UncenteredBatchNorm1d } from '../../src/norm/uncentered-batch-norm1d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const randomized = () => {
  const layer = new UncenteredBatchNorm1d({ features: 3, momentum: 0.3, eps: 1e-2, device, dtype });
  noGrad(() => layer.parameters().forEach((parameter) => parameter.copy_(torch.randn([3], { dtype, device }))));
  return layer;
};

describe('UncenteredBatchNorm1d', () => {
  for (const [samples, length] of [
    [5, 1],
    [3, 4],
  ] as const) {
    it(`divides by the root mean square: [${samples}, 3, ${length}]`, () => {
      const layer = randomized();
      const x = torch.randn([samples, 3, length], { dtype, device }).add(1);
      const values = numbers(x);
      const [weight, bias] = [numbers(layer.weight!), numbers(layer.bias!)];
      const channel = (index: number) => Math.floor(index / length) % 3;
      const squares = [0, 1, 2].map(
        (c) => values.reduce((sum, value, i) => sum + (channel(i) === c ? value * value : 0), 0) / (samples * length),
      );
      const expected = values.map((value, i) => {
        const c = channel(i);
        return (value / Math.sqrt(squares[c]! + 1e-2)) * weight[c]! + bias[c]!;
      });
      const y = layer.forward(length === 1 ? x.squeeze(2) : x);
      assertClose(y.flatten(), torch.tensor(expected, { dtype }), { atol: 1e-10 });
      const moved = squares.map((square) => 0.7 + 0.3 * square);
      assertClose(layer.runningVar!, torch.tensor(moved, { dtype }), { atol: 1e-12 });
      assert.deepEqual(numbers(layer.runningMean!), [0, 0, 0]);
    });
  }

  it('is batch normalisation of the same state in evaluation', () => {
    const layer = randomized();
    layer.forward(torch.randn([5, 3], { dtype, device }));
    const plain = new BatchNorm1d({ features: 3, eps: 1e-2, device, dtype });
    plain.loadStateDict(layer.stateDict());
    const x = torch.randn([4, 3], { dtype, device });
    assertClose(layer.eval().forward(x), plain.eval().forward(x), { atol: 0 });
  });

  it('passes the finite-difference check, and so does its gradient', () => {
    const layer = randomized();
    const x = torch.randn([4, 3, 2], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    gradcheck(
      (input) => {
        const [first] = grad(layer.forward(input).pow(3).sum(), [input], { createGraph: true });
        return first!;
      },
      [x],
    );
  });

  it('works without running statistics, in half precision, and refuses a single value', () => {
    const layer = new UncenteredBatchNorm1d({ features: 2, trackRunningStats: false, affine: false, eps: 0, device });
    const y = layer.eval().forward(torch.tensor([[3, 1], [4, 7]], { device })); // prettier-ignore
    assertClose(y, torch.tensor([[3, 1], [4, 7]], { device }).div(torch.tensor([Math.sqrt(12.5), 5])), { atol: 1e-6 }); // prettier-ignore
    const half = new UncenteredBatchNorm1d({ features: 2, device }).to('bfloat16');
    assert.equal(half.forward(torch.ones([2, 2], { device, dtype: 'bfloat16' })).dtype, 'bfloat16');
    assert.throws(() => half.forward(torch.ones([1, 2])), /needs more than one value a channel/);
  });

  it('goes on from its state bit for bit', () => {
    const [layer, copy] = [randomized(), randomized()];
    layer.forward(torch.randn([4, 3], { dtype, device }));
    copy.loadStateDict(layer.stateDict());
    const x = torch.randn([4, 3], { dtype, device });
    assertClose(copy.forward(x), layer.forward(x), { atol: 0, rtol: 0 });
    assertClose(copy.runningVar!, layer.runningVar!, { atol: 0, rtol: 0 });
  });
});
