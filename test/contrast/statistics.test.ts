import assert from 'node:assert/strict';
import { pairStatistics, type Pairs, type Statistic } from '../../src/contrast';
import { tiledStatistics } from '../../src/contrast/statistics';
import {
  getThreads,
  grad,
  gradcheck,
  scope,
  setThreads,
  torch,
  TorchError,
  type DType,
  type Tensor,
} from '../../src/torch';
import { assertClose } from '../support/close';
import { device, onCuda } from '../support/device';

const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype });
const whole = (below: number, count: number): Tensor => torch.randint(0, below, [count], { dtype: 'int64' });

/** Every kind over every set, by rows and by columns. */
function everything(offset?: Tensor): Statistic[] {
  const wanted: Statistic[] = [];
  for (const axis of ['rows', 'columns'] as const) {
    for (const over of ['positives', 'negatives', 'all'] as const) {
      wanted.push(
        { kind: 'logSumExp', over, axis },
        { kind: 'logSumExp', over, axis, power: 0.5, weighted: true },
        { kind: 'sum', over, axis },
        { kind: 'sumOfSquares', over, axis },
        { kind: 'softplus', over, axis, power: -1, ...(axis === 'rows' && offset && { offset }) },
        { kind: 'hinge', over, axis, power: 2, ...(axis === 'rows' && offset && { offset }) },
        { kind: 'count', over, axis },
        { kind: 'maximum', over, axis },
      );
      if (axis === 'columns') continue;
      wanted.push(
        { kind: 'logSumExp', over, top: 2 },
        { kind: 'logSumExp', over, top: 2, power: 0.5 },
        { kind: 'sum', over, top: 2 },
        { kind: 'sumOfSquares', over, top: 1 },
        { kind: 'softplus', over, top: 3, power: -1, ...(offset && { offset }) },
        { kind: 'hinge', over, top: 3, power: 2, ...(offset && { offset }) },
        { kind: 'count', over, top: 3 },
        { kind: 'maximum', over, top: 3 },
      );
    }
  }
  return wanted;
}

function problem(n: number, m: number, d: number, dtype: DType = 'float64'): Pairs & { offset: Tensor } {
  const learns = (x: Tensor): Tensor => x.requiresGrad_();
  return {
    rows: learns(random([n, d], dtype)),
    columns: learns(random([m, d], dtype)),
    bias: learns(torch.tensor(0.3, { dtype })),
    margin: 0.2,
    rowLabels: whole(4, n),
    columnLabels: whole(4, m),
    rowIds: whole(n + m, n),
    columnIds: whole(n + m, m),
    rowGuides: random([n, 2], dtype),
    columnGuides: random([m, 2], dtype),
    guideLimits: random([n], dtype),
    columnWeights: random([m], dtype),
    offset: learns(random([n], dtype)),
  };
}

/** The definition, as a loop over plain numbers. */
function byLoop(
  pairs: Pairs,
  { kind, over, axis = 'rows', power = 1, weighted, offset, top = Infinity }: Statistic,
): number[] {
  const list = (x: Tensor | undefined): number[] =>
    x === undefined ? [] : (x.detach().to('float64').toArraySync() as number[]);
  const table = (x: Tensor | undefined): number[][] =>
    x === undefined ? [] : (x.detach().to('float64').toArraySync() as number[][]);
  const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const [rows, columns, guides, otherGuides] = [pairs.rows, pairs.columns, pairs.rowGuides, pairs.columnGuides].map(
    table,
  ) as number[][][];
  const [labels, otherLabels, ids, otherIds] = [pairs.rowLabels, pairs.columnLabels, pairs.rowIds, pairs.columnIds].map(
    list,
  ) as number[][];
  const [limits, weights, offsets] = [pairs.guideLimits, pairs.columnWeights, offset].map(list) as number[][];
  const found: { score: number; term: number }[][] = (axis === 'rows' ? rows! : columns!).map(() => []);
  rows!.forEach((row, i) => {
    columns!.forEach((column, j) => {
      if (ids!.length > 0 && ids![i] === otherIds![j]) return;
      const isPositive = labels!.length > 0 && labels![i] === otherLabels![j];
      if (!isPositive && guides!.length > 0 && dot(guides![i]!, otherGuides![j]!) > limits![i]!) return;
      if (over !== 'all' && (over === 'positives') !== isPositive) return;
      const score = dot(row, column) + (pairs.bias?.itemSync() ?? 0) - (isPositive ? (pairs.margin ?? 0) : 0);
      const moved = power * (score - (offsets![i] ?? 0));
      const term = {
        logSumExp: power * score + (weighted === true ? weights![j]! : 0),
        sum: score,
        sumOfSquares: score ** 2,
        softplus: Math.log1p(Math.exp(moved)),
        hinge: Math.max(0, moved),
        count: 1,
        maximum: score,
      }[kind];
      found[axis === 'rows' ? i : j]!.push({ score, term });
    });
  });
  return found.map((all) => {
    const last = all.map(({ score }) => score).sort((a, b) => b - a)[top - 1] ?? -Infinity;
    const terms = all.filter(({ score }) => score >= last).map(({ term }) => term);
    if (kind === 'maximum') return Math.max(...terms);
    if (kind === 'logSumExp')
      return terms.length === 0 ? -Infinity : Math.log(terms.reduce((sum, x) => sum + Math.exp(x), 0));
    return terms.reduce((sum, x) => sum + x, 0);
  });
}

/** A weighted sum of all statistics with a gradient; those over no pair are left out. */
function sumOf(values: readonly Tensor[], wanted: readonly Statistic[], weights: readonly Tensor[]): Tensor {
  const terms = values.flatMap((value, i) => {
    if (wanted[i]!.kind === 'count' || wanted[i]!.kind === 'maximum') return [];
    const finite = value.eq(-Infinity).logicalNot();
    return [torch.where(finite, value, value.newZeros([])).mul(weights[i]!).sum()];
  });
  return terms.reduce((a, b) => a.add(b));
}

type Compute = (pairs: Pairs, wanted: readonly Statistic[]) => Tensor[];

/** `blocks` is the tiled form as other devices than the CPU have it. */
const executions: Record<'dense' | 'tiled' | 'blocks', Compute> = {
  dense: (pairs, wanted) => pairStatistics(pairs, wanted, 'dense'),
  tiled: (pairs, wanted) => pairStatistics(pairs, wanted, 'tiled'),
  blocks: (pairs, wanted) => tiledStatistics(pairs, wanted, true),
};

describe('pairStatistics', () => {
  for (const [execution, compute] of Object.entries(executions)) {
    it(`gives what a loop gives: ${execution}`, () => {
      scope(() => {
        for (const [n, m, d] of [
          [1, 1, 1],
          [3, 2, 4],
          [2, 9, 3],
          [7, 5, 2],
        ] as const) {
          const { offset, ...pairs } = problem(n, m, d);
          for (const given of [
            pairs,
            { rows: pairs.rows, columns: pairs.columns, columnWeights: pairs.columnWeights! },
          ]) {
            const wanted = everything(offset);
            compute(given, wanted).forEach((value, i) => {
              const expected = torch.tensor(byLoop(given, wanted[i]!), { dtype: 'float64' });
              assertClose(value.detach(), expected, { atol: 1e-12, rtol: 1e-12 }, JSON.stringify(wanted[i]!.kind));
            });
          }
        }
      });
    });

    it(`passes the finite-difference check: ${execution}`, () => {
      scope(() => {
        const { offset, ...pairs } = problem(4, 5, 3);
        const weights = everything().map(({ axis }) => random([axis === 'columns' ? 5 : 4]));
        gradcheck(
          (rows, columns, bias, moved) => {
            const wanted = everything(moved);
            return sumOf(compute({ ...pairs, rows: rows!, columns: columns!, bias: bias! }, wanted), wanted, weights);
          },
          [pairs.rows, pairs.columns, pairs.bias!, offset],
        );
      });
    });
  }

  for (const [dtype, tolerance] of [
    ['float64', 1e-12],
    ['float32', 2e-5],
    ['bfloat16', 2e-2],
  ] as const) {
    it(`agrees between all executions for odd sizes, values and gradients: ${dtype}`, () => {
      scope(() => {
        // Around a tile's edges, several parts of rows, and more columns than one section holds.
        for (const [n, m, d] of [
          [1, 300, 5],
          [129, 257, 3],
          [127, 1, 64],
          [513, 255, 17],
          // Two blocks of columns as well.
          ...(dtype === 'float64' ? [] : [[40, 5000, 110] as const]),
        ] as const) {
          const { offset, ...pairs } = problem(n, m, d, dtype);
          const scale = 1 / Math.sqrt(d);
          const wide: DType = dtype === 'float64' ? 'float64' : 'float32';
          const wanted = everything(offset.to({ dtype: wide }));
          const weights = wanted.map(({ axis }) => random([axis === 'columns' ? m : n], wide).div(Math.sqrt(n * m)));
          const run = (compute: Compute): Tensor[] => {
            const values = compute({ ...pairs, rows: pairs.rows.mul(scale) }, wanted);
            const slopes = grad(sumOf(values, wanted, weights), [pairs.rows, pairs.columns, pairs.bias!, offset]);
            return [...values.map((value) => value.detach()), ...slopes.map((slope) => slope!)];
          };
          const [dense, ...others] = Object.values(executions).map(run);
          for (const other of others) {
            dense!.forEach((expected, i) => {
              const most = torch.where(expected.isinf(), expected.newZeros([]), expected).abs().max().itemSync();
              const within = { atol: tolerance * (1 + most), rtol: tolerance };
              assertClose(other[i]!, expected, within, `${n}×${m}, ${String(i)}`);
            });
          }
        }
      });
    });
  }

  for (const [execution, compute] of Object.entries(executions)) {
    it(`counts every score that equals the last of a top: ${execution}`, () => {
      scope(() => {
        // A row's scores are 0, 1, 2, 3, 0, 1, …: with 300 columns each stands 75 times, in two tiles.
        const rows = torch.ones([2, 1], { dtype: 'float64' }).requiresGrad_();
        const columns = torch.arange(300, { dtype: 'float64' }).remainder(4).unsqueeze(1).requiresGrad_();
        const wanted: Statistic[] = [1, 75, 76, 149, 150, 151, 300, 301].map((top) => ({
          kind: 'sum',
          over: 'all',
          top,
        }));
        const values = compute({ rows, columns }, wanted);
        const expected = [225, 225, 375, 375, 375, 450, 450, 450];
        assert.deepEqual(
          values.map((value) => value.toArraySync()),
          expected.map((sum) => [sum, sum]),
        );
        const slopes = values.map((value) => grad(value.sum(), [columns], { retainGraph: true })[0]!.sum().itemSync());
        assert.deepEqual(slopes, [150, 150, 300, 300, 300, 450, 600, 600]);
      });
    });
  }

  it('leaves out the gradients of tiles that matter little, and only those', () => {
    scope(() => {
      // Each row has one column that it is close to; the others' shares are some exp(−20) each.
      const size = 1024;
      const rows = torch.eye(size, { dtype: 'float64' }).mul(20).requiresGrad_();
      const columns = torch.eye(size, { dtype: 'float64' }).requiresGrad_();
      const slopes = (compute: Compute, gradientFilter?: number): Tensor[] => {
        const pairs = { rows, columns, ...(gradientFilter !== undefined && { gradientFilter }) };
        const [value] = compute(pairs, [{ kind: 'logSumExp', over: 'all' }]);
        return grad(value!.sum(), [rows, columns]).map((slope) => slope!);
      };
      const exact = slopes(executions.dense);
      for (const execution of ['tiled', 'blocks'] as const) {
        slopes(executions[execution], 0).forEach((found, i) => {
          assertClose(found, exact[i]!, { atol: 1e-12 });
        });
        slopes(executions[execution], 0.5).forEach((found, i) => {
          assertClose(found, exact[i]!, { atol: 1e-6 });
        });
      }
      // The tiles off the diagonal were left out; one tile holds all of them where blocks are larger than the matrix.
      const [ofRows] = slopes(executions.tiled, 0.5);
      assert.equal(
        ofRows!
          .narrow(0, 0, 1)
          .narrow(1, size - 1, 1)
          .itemSync(),
        0,
      );
      assert.ok(
        exact[0]!
          .narrow(0, 0, 1)
          .narrow(1, size - 1, 1)
          .itemSync() > 0,
      );
      const [none, alsoNone] = slopes(executions.blocks, 0.999_999_99);
      assert.equal(none!.abs().sum().itemSync() + alsoNone!.abs().sum().itemSync(), 0);
    });
  });

  it('is exact where scores are far apart: rows and columns have maxima of their own', () => {
    scope(() => {
      const size = 300;
      const rows = torch.eye(size, { dtype: 'float32' }).mul(torch.linspace(-90, 200, size).unsqueeze(1));
      const columns = torch.eye(size, { dtype: 'float32' });
      const wanted: Statistic[] = [
        { kind: 'logSumExp', over: 'all' },
        { kind: 'logSumExp', over: 'all', axis: 'columns' },
      ];
      const [byRow, byColumn] = pairStatistics({ rows, columns }, wanted, 'tiled');
      const expected = torch
        .linspace(-90, 200, size, { dtype: 'float64' })
        .exp()
        .add(size - 1)
        .log();
      for (const found of [byRow!, byColumn!]) assertClose(found, expected.to('float32'), { atol: 2e-5, rtol: 1e-6 });
    });
  });

  it('gives the same bits for any number of threads', () => {
    const before = getThreads();
    try {
      scope(() => {
        const { offset, ...pairs } = problem(700, 900, 33, 'float32');
        const run = (count: number): number[][] => {
          setThreads(count);
          const wanted = everything(offset);
          const values = pairStatistics(pairs, wanted, 'tiled');
          const weights = wanted.map(({ axis }) => torch.ones([axis === 'columns' ? 900 : 700]));
          const slopes = grad(sumOf(values, wanted, weights), [pairs.rows, pairs.columns]);
          return [...values, ...slopes].map((x) => Array.from(x!.detach().dataSync() as Float32Array));
        };
        assert.deepEqual(run(1), run(2));
      });
    } finally {
      setThreads(before);
    }
  });

  it('says what it cannot do', () => {
    scope(() => {
      const { offset, ...pairs } = problem(3, 4, 2);
      const wanted: Statistic[] = [{ kind: 'logSumExp', over: 'all' }];
      const tiled =
        (changed: Partial<Pairs>, list = wanted) =>
        () =>
          pairStatistics({ ...pairs, ...changed }, list, 'tiled');
      assert.throws(tiled({ rows: random([3, 3]) }), /rows and columns must be of one dimension, not 3 and 2/);
      assert.throws(tiled({ columnLabels: whole(2, 5) }), /column_labels must have the shape \[4\]/);
      assert.throws(tiled({ rowLabels: random([3]) }), /row_labels must be int64/);
      assert.throws(tiled({ rows: random([3, 2], 'float32') }), /rows are Float, columns Double/);
      assert.throws(tiled({}, [{ kind: 'logSumExp', over: 'all', power: -1 }]), /the power -1 has no use here/);
      assert.throws(
        tiled({}, [{ kind: 'sum', over: 'all', offset }]),
        /only softplus and hinge over rows take an offset/,
      );
      assert.throws(
        tiled({}, [{ kind: 'sum', over: 'all', axis: 'columns', top: 1 }]),
        /only unweighted statistics of rows have a top/,
      );
      assert.throws(tiled({ gradientFilter: 1 }), /the filter is a share in \[0, 1\), not 1/);
      assert.throws(
        tiled({ gradientFilter: 0.1 }, [{ kind: 'sum', over: 'all', axis: 'columns' }]),
        /there is no filter beside statistics of columns/,
      );
      const value = tiled({})()[0]!.sum();
      assert.throws(
        () => grad(value, [pairs.rows], { createGraph: true }),
        (error: unknown) => error instanceof TorchError && /no second derivatives: compute densely/.test(error.message),
      );
    });
  });
});

/** What the fused kernels have, in the numbers that they take at once. */
const fusedStatistics: readonly (readonly Statistic[])[] = [
  [
    { kind: 'logSumExp', over: 'all' },
    { kind: 'logSumExp', over: 'all', axis: 'columns' },
    { kind: 'sum', over: 'positives' },
    { kind: 'count', over: 'positives' },
  ],
  [
    { kind: 'logSumExp', over: 'negatives', power: 0.5 },
    { kind: 'logSumExp', over: 'positives', axis: 'columns', power: 2 },
    { kind: 'softplus', over: 'positives', power: -1 },
    { kind: 'softplus', over: 'negatives', axis: 'columns' },
    { kind: 'maximum', over: 'negatives' },
    { kind: 'maximum', over: 'all', axis: 'columns' },
    { kind: 'count', over: 'negatives', axis: 'columns' },
    { kind: 'sum', over: 'all', axis: 'columns' },
  ],
];

describe('pairStatistics by fused kernels', () => {
  const setting = process.env['KONTRAST_FUSED'];
  before(function () {
    if (!onCuda) this.skip();
  });
  afterEach(() => {
    if (setting === undefined) delete process.env['KONTRAST_FUSED'];
    else process.env['KONTRAST_FUSED'] = setting;
  });

  /** Values and gradients by rows, columns and bias, on the CPU in float64. */
  function results(pairs: Pairs, wanted: readonly Statistic[], weights: readonly Tensor[], compute: Compute): Tensor[] {
    const values = compute(pairs, wanted);
    const on = weights.map((weight) => weight.to({ device: pairs.rows.device, dtype: values[0]!.dtype }));
    const slopes = grad(sumOf(values, wanted, on), [pairs.rows, pairs.columns, pairs.bias!]);
    return [...values, ...slopes].map((x) => x!.detach().to({ device: 'cpu', dtype: 'float64' }));
  }

  /** The same pairs on the device, as they are, and in float64 on the CPU. */
  function bothOf(n: number, m: number, d: number, dtype: DType, size: number): [Pairs, Pairs] {
    const { rows, columns, bias, margin, rowLabels, columnLabels, rowIds, columnIds } = problem(n, m, d, 'float32');
    const short = [rows.mul(size / Math.sqrt(d)), columns.mul(size)].map((x) => x.detach().to({ dtype }));
    const at = (where: 'cpu' | typeof device): Pairs => {
      const move = (x: Tensor): Tensor => x.detach().to({ device: where });
      const learns = (x: Tensor): Tensor =>
        (where === 'cpu' ? x.detach().to({ dtype: 'float64' }) : move(x)).requiresGrad_();
      return {
        rows: learns(short[0]!),
        columns: learns(short[1]!),
        bias: learns(bias!),
        margin: margin!,
        rowLabels: move(rowLabels!),
        columnLabels: move(columnLabels!),
        rowIds: move(rowIds!),
        columnIds: move(columnIds!),
      };
    };
    return [at(device), at('cpu')];
  }

  const fused: Compute = (pairs, wanted) => {
    process.env['KONTRAST_FUSED'] = 'require';
    return tiledStatistics(pairs, wanted);
  };

  for (const [dtype, tolerance, slopeTolerance] of [
    // The device's float32 products may be rounded to TF32 where that was asked for; it is not here.
    ['float32', 1e-5, 5e-5],
    ['bfloat16', 1e-5, 1e-2],
  ] as const) {
    it(`agrees with the tiled form in float64, values and gradients: ${dtype}`, () => {
      scope(() => {
        for (const [n, m, d] of [
          [1, 1, 1],
          [129, 257, 3],
          [301, 5, 64],
          // Several blocks of rows and of columns, the last ones odd; slopes of several blocks below each other.
          [4200, 4500, 16],
          [5, 8193, 8],
        ] as const) {
          for (const wanted of fusedStatistics) {
            const [pairs, exact] = bothOf(n, m, d, dtype, 1);
            const weights = wanted.map(({ axis }) => random([axis === 'columns' ? m : n]).div(Math.sqrt(n * m)));
            const expected = results(exact, wanted, weights, executions.tiled);
            results(pairs, wanted, weights, fused).forEach((found, i) => {
              const reference = expected[i]!;
              const most = torch.where(reference.isinf(), reference.newZeros([]), reference).abs().max().itemSync();
              const share = i < wanted.length ? tolerance : slopeTolerance;
              assertClose(found, reference, { atol: share * (1 + most), rtol: share }, `${n}×${m}, ${String(i)}`);
            });
          }
        }
      });
    });
  }

  it('is exact where scores are far apart, as at a temperature of 0.005', () => {
    scope(() => {
      const [pairs, exact] = bothOf(300, 700, 4, 'float32', 14);
      const wanted = fusedStatistics[0]!;
      const weights = wanted.map(({ axis }) => random([axis === 'columns' ? 700 : 300]));
      const expected = results(exact, wanted, weights, executions.tiled);
      results(pairs, wanted, weights, fused).forEach((found, i) => {
        const most = torch.where(expected[i]!.isinf(), expected[i]!.newZeros([]), expected[i]!).abs().max().itemSync();
        assertClose(found, expected[i]!, { atol: 1e-4 * (1 + most) }, String(i));
      });
    });
  });

  it('gives the same bits every time', () => {
    scope(() => {
      const [pairs] = bothOf(4200, 4500, 64, 'bfloat16', 1);
      const wanted = fusedStatistics[0]!;
      const weights = wanted.map(({ axis }) => random([axis === 'columns' ? 4500 : 4200]));
      const run = (): Tensor[] => results(pairs, wanted, weights, fused);
      const first = run();
      run().forEach((again, i) => {
        assert.ok(again.equal(first[i]!), String(i));
      });
    });
  });

  it('leaves to LibTorch’s operators what it has not, and everything when it is switched off', () => {
    scope(() => {
      const [pairs, exact] = bothOf(40, 50, 8, 'float32', 1);
      const wanted: Statistic[] = [{ kind: 'hinge', over: 'all' }, ...fusedStatistics[0]!];
      const expected = pairStatistics(exact, wanted, 'dense');
      for (const value of ['require', '0']) {
        process.env['KONTRAST_FUSED'] = value;
        tiledStatistics(pairs, wanted).forEach((found, i) => {
          const reference = expected[i]!.detach();
          assertClose(found.detach().to({ device: 'cpu', dtype: 'float64' }), reference, { atol: 1e-4, rtol: 1e-5 });
        });
      }
    });
  });
});
