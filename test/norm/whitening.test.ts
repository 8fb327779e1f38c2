import assert from 'node:assert/strict';
import { Generator, autocast, grad, gradcheck, gradgradcheck, noGrad, torch, type Tensor } from '../../src/torch';
import { CholeskyWhitening, whitenSubBatches } from '../../src/norm/whitening';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

/** The rows of x [N, C, …]: one a sample and place. */
function rowsOf(x: Tensor): number[][] {
  const rows = x.movedim(1, -1).reshape([-1, x.sizeOf(1)]);
  return Array.from({ length: rows.sizeOf(0) }, (_, row) => numbers(rows.at(row)));
}

/** Mean and covariance (divided by n − 1) over plain numbers. */
function momentsOf(rows: number[][]): { mean: number[]; covariance: number[][] } {
  const mean = rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
  const covariance = mean.map((_, i) =>
    mean.map(
      (_, j) => rows.reduce((sum, row) => sum + (row[i]! - mean[i]!) * (row[j]! - mean[j]!), 0) / (rows.length - 1),
    ),
  );
  return { mean, covariance };
}

/** L with L Lᵀ = the matrix, over plain numbers. */
function choleskyOf(matrix: number[][]): number[][] {
  const factor = matrix.map((row) => row.map(() => 0));
  for (let i = 0; i < matrix.length; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = matrix[i]![j]!;
      for (let k = 0; k < j; k++) rest -= factor[i]![k]! * factor[j]![k]!;
      factor[i]![j] = i === j ? Math.sqrt(rest) : rest / factor[j]![j]!;
    }
  }
  return factor;
}

/** L⁻¹ (x − μ) of each row by forward substitution. */
function whitened(rows: number[][], eps: number): number[][] {
  const { mean, covariance } = momentsOf(rows);
  const factor = choleskyOf(covariance.map((row, i) => row.map((v, j) => (1 - eps) * v + (i === j ? eps : 0))));
  return rows.map((row) => {
    const y: number[] = [];
    for (let i = 0; i < row.length; i++) {
      let rest = row[i]! - mean[i]!;
      for (let k = 0; k < i; k++) rest -= factor[i]![k]! * y[k]!;
      y.push(rest / factor[i]![i]!);
    }
    return y;
  });
}

describe('CholeskyWhitening', () => {
  it('whitens each group of channels as a loop over plain numbers does, for 1d, 2d and 3d inputs', () => {
    for (const shape of [
      [7, 4],
      [3, 4, 5],
      [2, 4, 3, 2],
      [2, 4, 2, 1, 3],
    ]) {
      const x = torch.randn(shape, { dtype, device }).add(3);
      for (const groups of [1, 2]) {
        const layer = new CholeskyWhitening({ features: 4, groups, eps: 0.01, affine: false, device, dtype });
        const expected = x
          .chunk(groups, 1)
          .map((part) => whitened(rowsOf(part), 0.01))
          .reduce((left, right) => left.map((row, i) => [...row, ...right[i]!]));
        assertClose(torch.tensor(rowsOf(layer.forward(x)), { dtype }), torch.tensor(expected, { dtype }), {
          atol: 1e-10,
        });
      }
    }
  });

  it('gives the same in channels-last memory, and keeps it', () => {
    for (const groups of [1, 2]) {
      const [a, b] = [0, 1].map(() => new CholeskyWhitening({ features: 4, groups, device, dtype }));
      const x = torch.randn([3, 4, 3, 2], { dtype, device });
      const [one, other] = [x.clone().requiresGrad_(), x.contiguous({ memoryFormat: 'channels_last' }).requiresGrad_()];
      const [y, z] = [a!.forward(one), b!.forward(other)];
      assertClose(z, y, { atol: 1e-12 });
      assert.ok(z.isContiguous('channels_last'));
      const weights = torch.randn([3, 4, 3, 2], { dtype, device });
      y.mul(weights).sum().backward();
      z.mul(weights).sum().backward();
      assertClose(other.grad!, one.grad!, { atol: 1e-12 });
    }
  });

  it('passes the finite-difference check', () => {
    for (const shape of [
      [6, 4],
      [2, 4, 3, 2],
    ]) {
      for (const groups of [1, 2]) {
        const layer = new CholeskyWhitening({ features: 4, groups, eps: 0.1, device, dtype });
        noGrad(() => layer.weight!.copy_(torch.tensor([1, -2, 0.5, 0], { dtype })));
        const x = torch.randn(shape, { dtype, device }).requiresGrad_();
        gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
      }
    }
  });

  it('moves the running statistics, evaluates by them, and does the same after a resume', () => {
    const make = () => new CholeskyWhitening({ features: 3, momentum: 0.3, eps: 1e-3, device, dtype });
    const layer = make();
    const [x, y] = [torch.randn([8, 3], { dtype, device }), torch.randn([9, 3], { dtype, device })];
    layer.forward(x);
    const { mean, covariance } = momentsOf(rowsOf(x));
    assertClose(layer.runningMean!, torch.tensor(mean, { dtype }).mul(0.3), { atol: 1e-12 });
    const start = torch.eye(3, { dtype });
    const moved = start.mul(0.7).add(torch.tensor(covariance, { dtype }), { alpha: 0.3 });
    assertClose(layer.runningCovariance!.at(0), moved, { atol: 1e-12 });
    assert.deepEqual(numbers(layer.numBatchesTracked!), [1]);
    const factor = torch.linalgCholesky(moved.mul(1 - 1e-3).add(start, { alpha: 1e-3 }));
    const expected = torch.linalgSolveTriangular(factor, y.sub(layer.runningMean!).t(), { upper: false }).t();
    assertClose(layer.eval().forward(y), expected, { atol: 1e-10 });
    assert.deepEqual(numbers(layer.numBatchesTracked!), [1]);
    const other = make();
    other.loadStateDict(layer.stateDict());
    layer.train();
    assertClose(other.forward(y), layer.forward(y), { atol: 0, rtol: 0 });
    assertClose(other.runningCovariance!, layer.runningCovariance!, { atol: 0, rtol: 0 });
  });

  it('takes gradients in evaluation, and the plain mean over batches', () => {
    const layer = new CholeskyWhitening({ features: 2, momentum: null, device, dtype });
    const batches = [0, 1, 2].map(() => torch.randn([6, 2], { dtype, device }));
    for (const batch of batches) layer.forward(batch);
    assertClose(layer.runningMean!, torch.stack(batches.map((batch) => batch.mean([0]))).mean([0]), { atol: 1e-12 });
    layer.eval();
    const x = torch.randn([3, 2], { dtype, device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    gradgradcheck((input) => layer.forward(input), [x]);
  });

  it('refuses gradients of gradients in training', () => {
    const layer = new CholeskyWhitening({ features: 2, device, dtype });
    const x = torch.randn([6, 2], { dtype, device }).requiresGrad_();
    const loss = layer.forward(x).pow(3).sum();
    assert.throws(() => grad(loss, x, { createGraph: true }), /whitening by the batch has no gradients of gradients/);
  });

  it('does not cancel far from zero', () => {
    const far = torch.randn([64, 3, 4, 4], { dtype, device }).mul(0.1).add(1e4);
    const layer = new CholeskyWhitening({ features: 3, eps: 0, affine: false, device, dtype });
    const rows = rowsOf(layer.forward(far));
    const { mean, covariance } = momentsOf(rows);
    assertClose(torch.tensor(mean, { dtype }), torch.zeros([3], { dtype }), { atol: 1e-6 });
    assertClose(torch.tensor(covariance, { dtype }), torch.eye(3, { dtype }), { atol: 1e-6 });
  });

  it('computes in float32 under autocast and for bfloat16', () => {
    const layer = new CholeskyWhitening({ features: 3, device });
    const x = torch.randn([16, 3], { device });
    const y = layer.forward(x);
    assertClose(
      autocast({ device: 'cpu', dtype: 'bfloat16' }, () => layer.forward(x)),
      y,
      { atol: 0, rtol: 0 },
    );
    const half = layer.forward(x.to('bfloat16'));
    assert.equal(half.dtype, 'bfloat16');
    const short = new CholeskyWhitening({ features: 3, device }).to('bfloat16');
    for (const mode of [true, false]) assert.equal(short.train(mode).forward(x.to('bfloat16')).dtype, 'bfloat16');
    assert.equal(short.runningCovariance!.dtype, 'bfloat16');
    assertClose(half.to('float32'), layer.forward(x.to('bfloat16').to('float32')), { atol: 0.02 });
  });

  it('refuses what does not fit before anything changes', () => {
    const layer = new CholeskyWhitening({ features: 4, device });
    assert.throws(
      () => layer.forward(torch.zeros([4, 4], { device })),
      /CholeskyWhitening: a batch of shape \[4, 4\] has 4 values a channel, and whitening 4 channels together takes at least 5/,
    );
    assert.throws(() => layer.forward(torch.zeros([8, 3], { device })), /expected 4 channels in the second dimension/);
    assert.throws(() => new CholeskyWhitening({ features: 4, groups: 3 }), /groups \(3\) must divide features \(4\)/);
    assert.throws(() => new CholeskyWhitening({ features: 4, eps: 2 }), /eps/);
    const strict = new CholeskyWhitening({ features: 1, nonFinite: 'raise', device });
    assert.throws(() => strict.forward(torch.tensor([[1], [NaN], [0]], { device })), /holds NaN/);
    assert.deepEqual(numbers(layer.numBatchesTracked!), [0]);
    const exact = new CholeskyWhitening({ features: 2, eps: 0, device });
    assert.throws(
      () => exact.forward(torch.ones([5, 2], { device })),
      /no Cholesky decomposition: channels are constant/,
    );
    assert.deepEqual(numbers(exact.numBatchesTracked!), [0]);
    const state = layer.stateDict();
    state.delete('running_covariance');
    assert.throws(() => layer.loadStateDict(state), /missing: running_covariance/);
  });
});

describe('whitenSubBatches', () => {
  it('whitens each view of each random sub-batch by itself, all views in the same company', () => {
    const views = [0, 1].map(() => torch.randn([12, 2], { dtype, device }));
    const repeats = whitenSubBatches(views, { size: 4, repeats: 2, generator: new Generator({ seed: 5 }) });
    const generator = new Generator({ seed: 5 });
    repeats.forEach((whitenedViews) => {
      const order = numbers(torch.randperm(12, { generator }));
      views.forEach((view, number) => {
        const rows = rowsOf(view);
        const expected: number[][] = [];
        for (let cut = 0; cut < 12; cut += 4) {
          const members = order.slice(cut, cut + 4);
          whitened(
            members.map((row) => rows[row]!),
            0,
          ).forEach((row, place) => (expected[members[place]!] = row));
        }
        assertClose(whitenedViews[number]!, torch.tensor(expected, { dtype }), { atol: 1e-10 });
      });
    });
    assert.notDeepEqual(numbers(repeats[0]![0]!), numbers(repeats[1]![0]!));
  });

  it('passes the finite-difference check', () => {
    const views = [0, 1].map(() => torch.randn([6, 2], { dtype, device }).requiresGrad_());
    gradcheck(
      (a, b) => whitenSubBatches([a!, b!], { size: 3, eps: 0.1, generator: new Generator({ seed: 1 }) })[0]!,
      views,
    );
  });

  it('refuses sub-batches that are too small or do not divide the batch', () => {
    const view = torch.randn([12, 4], { device });
    assert.throws(
      () => whitenSubBatches([view], { size: 4 }),
      /a sub-batch of 4 samples cannot be whitened in 4 dimensions: .* at least 5 \(W-MSE: 8\)/,
    );
    assert.throws(() => whitenSubBatches([view], { size: 5 }), /a batch of 12 samples does not divide/);
    assert.throws(
      () => whitenSubBatches([view, view.narrow(0, 0, 6)], { size: 6 }),
      /of one shape, found \[12, 4\], \[6, 4\]/,
    );
  });
});
