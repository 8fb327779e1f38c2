import assert from 'node:assert/strict';
import { gradcheck, noGrad, torch, type Tensor } from '../../src/torch';
import { IterativeWhitening } from '../../src/norm/iterative-whitening';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

/** The paper's formula on x [N, d], by dense products. */
function iterated(x: Tensor, eps: number, iterations: number): { y: Tensor; matrix: Tensor } {
  const d = x.sizeOf(1);
  const centred = x.sub(x.mean([0]));
  const covariance = centred.t().matmul(centred).div(x.sizeOf(0)).add(torch.eye(d, { dtype }), { alpha: eps });
  const trace = covariance.diagonal().sum();
  const scaled = covariance.div(trace);
  let p = torch.eye(d, { dtype });
  for (let step = 0; step < iterations; step++) {
    p = p.mul(3).sub(p.matmul(p).matmul(p).matmul(scaled)).mul(0.5);
  }
  const matrix = p.div(trace.sqrt());
  return { y: centred.matmul(matrix.t()), matrix };
}

const rowsOf = (x: Tensor): Tensor => x.movedim(1, -1).reshape([-1, x.sizeOf(1)]);

describe('IterativeWhitening', () => {
  it("gives the paper's iteration for each group, for 1d and 2d inputs in both memory formats", () => {
    const images = torch.randn([3, 4, 3, 2], { dtype, device }).add(2);
    for (const x of [
      torch.randn([7, 4], { dtype, device }),
      images,
      images.contiguous({ memoryFormat: 'channels_last' }),
    ]) {
      for (const [groups, iterations] of [
        [1, 5],
        [2, 1],
        [2, 3],
      ] as const) {
        const layer = new IterativeWhitening({
          features: 4,
          groups,
          iterations,
          eps: 0.01,
          affine: false,
          device,
          dtype,
        });
        const expected = x.chunk(groups, 1).map((part) => iterated(rowsOf(part), 0.01, iterations).y);
        assertClose(rowsOf(layer.forward(x)), torch.cat(expected, 1), { atol: 1e-10 });
      }
    }
  });

  it('approaches white outputs with more steps', () => {
    const x = torch.randn([200, 3], { dtype, device }).matmul(
      torch.tensor(
        [
          [1, 0, 0],
          [1, 2, 0],
          [0, 1, 0.5],
        ],
        { dtype },
      ),
    );
    const layer = new IterativeWhitening({ features: 3, iterations: 9, eps: 0, device, dtype });
    const y = layer.forward(x);
    assertClose(y.t().matmul(y).div(200), torch.eye(3, { dtype }), { atol: 1e-8 });
  });

  it('passes the finite-difference check', () => {
    for (const iterations of [1, 2, 4]) {
      for (const shape of [
        [6, 4],
        [2, 4, 3, 2],
      ]) {
        const layer = new IterativeWhitening({ features: 4, groups: 2, iterations, eps: 0.1, device, dtype });
        noGrad(() => layer.weight!.copy_(torch.tensor([1, -2, 0.5, 0], { dtype })));
        const x = torch.randn(shape, { dtype, device }).requiresGrad_();
        gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
      }
    }
  });

  it('follows the whitening matrix, evaluates by it, and does the same after a resume', () => {
    const make = () => new IterativeWhitening({ features: 3, momentum: 0.3, eps: 1e-3, device, dtype });
    const layer = make();
    const [x, y] = [torch.randn([8, 3], { dtype, device }), torch.randn([5, 3], { dtype, device })];
    layer.forward(x);
    const moved = torch
      .eye(3, { dtype })
      .mul(0.7)
      .add(iterated(x, 1e-3, 5).matrix, { alpha: 0.3 });
    assertClose(layer.runningWhitening!.at(0), moved, { atol: 1e-12 });
    assertClose(layer.runningMean!, x.mean([0]).mul(0.3), { atol: 1e-12 });
    assertClose(layer.eval().forward(y), y.sub(layer.runningMean!).matmul(moved.t()), { atol: 1e-12 });
    const other = make();
    other.loadStateDict(layer.stateDict());
    layer.train();
    assertClose(other.forward(y), layer.forward(y), { atol: 0, rtol: 0 });
    assertClose(other.runningWhitening!, layer.runningWhitening!, { atol: 0, rtol: 0 });
    assert.deepEqual(numbers(other.numBatchesTracked!), [2]);
  });

  it('takes fewer values than channels, but not one', () => {
    const layer = new IterativeWhitening({ features: 4, device });
    assert.deepEqual(layer.forward(torch.randn([3, 4], { device })).shape, [3, 4]);
    assert.throws(
      () => layer.forward(torch.randn([1, 4], { device })),
      /IterativeWhitening: a batch of shape \[1, 4\] has 1 values/,
    );
    assert.throws(() => new IterativeWhitening({ features: 4, iterations: 0 }), /iterations/);
  });
});
