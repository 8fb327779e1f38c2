import assert from 'node:assert/strict';
import {
  batchChannelNorm,
  blendWindow,
  countBatch,
  countBatches,
  groupCombine,
  gradientRow,
  groupMoments,
  groupSums,
  groupedBatchNorm,
  joinBatch,
  joinRows,
  joinedGradient,
  moveStatistics,
  normalizeBy,
  statisticsRow,
  uncenteredNorm,
  type JoinedBatch,
} from '../../src/norm/operators';
import {
  getThreads,
  grad,
  gradcheck,
  noGrad,
  ops,
  setThreads,
  torch,
  type MemoryFormat,
  type Tensor,
} from '../../src/torch';
import { assertClose } from '../support/close';

const dtype = 'float64';
const random = (...shape: number[]): Tensor => torch.randn(shape, { dtype });

/** What the operators see as one batch: a layout, or a view that lies in none. */
const layouts: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  contiguous: (x) => x.contiguous(),
  'channels-last': (x) =>
    x.ndim < 4
      ? x.contiguous()
      : x.contiguous({ memoryFormat: (x.ndim === 4 ? 'channels_last' : 'channels_last_3d') as MemoryFormat }),
  'a transposed view': (x) => x.transpose(0, 1).contiguous().transpose(0, 1),
};

const shapes = [
  [6, 3],
  [150, 130],
  // More channels than a task takes, and more rows.
  [70, 2100],
  [6, 5, 3],
  [6, 3, 1, 1],
  [6, 1, 3, 5],
  [6, 3, 7, 9],
  [2, 2, 70, 65],
  [4, 130, 6, 6],
  [4, 3, 2, 3, 5],
];

/** The mean of every group and channel by LibTorch's operators, over all dimensions but the channels'. */
function momentsOf(x: Tensor): [Tensor, Tensor] {
  const rows = x.transpose(0, 1).flatten(1);
  return [
    rows.mean([1]),
    rows
      .sub(rows.mean([1], true))
      .square()
      .mean([1]),
  ];
}

/** Samples of group i of s, in the order of the batch. */
function groupsOf(x: Tensor, sizes: readonly number[], interleaved: boolean): Tensor[] {
  if (!interleaved) return x.split([...sizes]);
  const indices = Array.from({ length: x.sizeOf(0) }, (_, i) => i);
  return sizes.map((_, group) =>
    x.indexSelect(
      0,
      torch.tensor(
        indices.filter((i) => i % sizes.length === group),
        { dtype: 'int64' },
      ),
    ),
  );
}

describe('operators of normalisation', () => {
  for (const [layout, laid] of Object.entries(layouts)) {
    it(`take the moments, sums and maps of groups in any shape, ${layout}`, () => {
      for (const shape of shapes) {
        const what = `${layout} [${shape.join(', ')}]`;
        const x = laid(random(...shape).add(3));
        const gradient = laid(random(...shape));
        const [samples, features] = shape as [number, number];
        const uneven = samples > 2 ? [samples - 2, 2] : [1, 1];
        for (const sizes of [[samples], uneven, Array.from({ length: samples }, () => 1)]) {
          const [means, variances] = groupMoments(x, sizes);
          const expected = groupsOf(x, sizes, false).map(momentsOf);
          assertClose(means.view([-1, features]), torch.stack(expected.map(([mean]) => mean)), { atol: 1e-12 }, what);
          const variance = torch.stack(expected.map(([, one]) => one));
          assertClose(variances.view([-1, features]), variance, { atol: 1e-12 }, what);
        }
        assert.deepEqual(groupMoments(x, [])[0].shape, [samples, features]);
        for (const [sizes, rows] of [
          [[samples], 1],
          [[], samples],
        ] as const) {
          const spread = (values: Tensor) => values.view([rows, features, ...shape.slice(2).map(() => 1)]);
          const [a, b, c] = [random(rows, features), random(rows, features), random(rows, features)];
          const map = gradient.mul(spread(a)).add(x.mul(spread(b))).add(spread(c)); // prettier-ignore
          const made = groupCombine(gradient, x, [a, b, c], sizes);
          assertClose(made, map, { atol: 1e-12 }, what);
          assert.equal(made.isContiguous(), x.isContiguous() || layout === 'a transposed view', what);
          const total = (values: Tensor) =>
            rows === 1 ? values.transpose(0, 1).flatten(1).sum([1]) : values.reshape([samples, features, -1]).sum([2]);
          const [sum, product] = groupSums(gradient, x, a, sizes);
          assertClose(sum, total(gradient), { atol: 1e-9 }, what);
          assertClose(product, total(gradient.mul(x.sub(spread(a)))), { atol: 1e-9 }, what);
        }
      }
    });

    it(`normalise groups as batch norm does each of them, with its gradients, ${layout}`, () => {
      for (const shape of [
        [8, 3],
        [8, 3, 5, 3],
        [8, 40, 2, 2],
      ]) {
        // prettier-ignore
        for (const [sizes, interleaved] of [[[3, 5], false], [[4, 4], true], [[2, 2, 2, 2], false]] as const) { // prettier-ignore
          const x = laid(random(...shape)).requiresGrad_(true);
          const [weight, bias] = [random(shape[1]!).requiresGrad_(true), random(shape[1]!).requiresGrad_(true)];
          const y = groupedBatchNorm(x, { weight, bias, sizes, interleaved, eps: 1e-3, running: null });
          const parts = groupsOf(x, sizes, interleaved).map((part) =>
            torch.batchNorm(part, weight, bias, null, null, true, 0, 1e-3, true),
          );
          const results = groupsOf(y, sizes, interleaved);
          results.forEach((result, i) => {
            assertClose(result, parts[i]!, { atol: 1e-12 });
          });
          const gradient = random(...shape);
          const inputs = [x, weight, bias];
          const expected = grad(parts, inputs, { gradOutputs: groupsOf(gradient, sizes, interleaved) });
          grad(y, inputs, { gradOutputs: [gradient] }).forEach((found, i) => {
            assertClose(found!, expected[i]!, { atol: 1e-11 });
          });
        }
      }
    });
  }

  it('do not cancel for large means, in either layout', () => {
    const values = random(16, 3, 20, 20).mul(0.1);
    const expected = momentsOf(values)[1];
    for (const laid of Object.values(layouts)) {
      const [, variance] = groupMoments(laid(values.add(1e4)), [16]);
      assertClose(variance.div(expected), torch.onesLike(expected), { atol: 1e-6 });
    }
  });

  it('give the same bits for any number of threads, and in bfloat16 what float32 gives, rounded', () => {
    const threads = getThreads();
    const images = torch.randn([32, 16, 24, 24]);
    const cases = [
      ...Object.values(layouts).map((laid) => [images, laid] as const),
      [torch.randn([32, 9000])] as const,
    ];
    for (const [x, laid = (same: Tensor) => same] of cases) {
      const low = x.to('bfloat16');
      const settings = { weight: null, bias: null, sizes: [16, 16], interleaved: false, eps: 1e-5, running: null };
      const y = groupedBatchNorm(laid(low), settings);
      assert.equal(y.dtype, 'bfloat16');
      const wide = groupedBatchNorm(laid(low.to('float32')), settings);
      assert.ok(y.equal(wide.to('bfloat16')));
      assert.equal(groupMoments(laid(low), [32])[0].dtype, 'float32');
      const found = [1, 3].map((count) => {
        setThreads(count);
        return groupedBatchNorm(laid(x), settings);
      }) as [Tensor, Tensor];
      setThreads(threads);
      assert.ok(found[0].equal(found[1]));
    }
  });

  it('have the gradients that finite differences find', () => {
    const [weight, bias, floor, extra] = [random(3), random(3), random(3), random(3).abs()].map((one) =>
      one.requiresGrad_(true),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const x = random(4, 3, 2, 3).requiresGrad_(true);
    const eps = 1e-2;
    gradcheck(
      (...[x, w, b, floor, extraEps]: Tensor[]) => {
        return uncenteredNorm(x!, { weight: w!, bias: b!, eps, sizes: [], floor: floor!, extraEps: extraEps! });
      },
      [x, weight, bias, floor, extra],
    );
    const running = (): [Tensor, Tensor] => [torch.zeros([3], { dtype }), torch.ones([3], { dtype })];
    gradcheck(
      (x: Tensor, w: Tensor, b: Tensor) => {
        const [runningMean, runningVar] = running();
        const channels = { channelWeight: null, channelBias: null };
        const rest = { runningMean, runningVar, groups: 1, estimate: false, rate: 0.1, eps };
        return batchChannelNorm(x, { weight: w, bias: b, ...channels, ...rest });
      },
      [x, weight, bias],
    );
    gradcheck(
      (x: Tensor, w: Tensor, b: Tensor) => {
        const [ownMean, ownVariance] = noGrad(() => groupMoments(x, [4]));
        // Statistics of which this batch is a quarter, of the mean and the mean square.
        const mean = ownMean.mul(0.25).add(0.3);
        const square = ownVariance.add(ownMean.square()).mul(0.25).add(2);
        const share = torch.tensor(0.25, { dtype });
        return normalizeBy(x, w, b, { mean, variance: square.sub(mean.square()), ownMean, share }, [4], eps);
      },
      [x, weight, bias],
    );
  });

  it('have second derivatives where they say so', () => {
    const x = random(4, 2, 3);
    const second = (norm: (x: Tensor) => Tensor) => {
      const input = x.clone().requiresGrad_(true);
      return gradcheck((x: Tensor) => grad(norm(x).pow(3).sum(), x, { createGraph: true })[0]!, [input]);
    };
    const plain = { weight: null, bias: null, eps: 1e-2 };
    second((x) => groupedBatchNorm(x, { ...plain, sizes: [2, 2], interleaved: true, running: null }));
    second((x) => uncenteredNorm(x, { ...plain, sizes: [4] }));
    const input = x.requiresGrad_(true);
    const y = uncenteredNorm(input, { ...plain, sizes: [] });
    assert.throws(() => grad(y.sum(), input, { createGraph: true }), /no gradients of gradients/);
  });

  it('move running statistics and tell autograd', () => {
    const x = random(6, 3);
    const [mean, variance] = [random(3), random(3).abs()];
    const before = [mean.clone(), variance.clone()] as const;
    const kept = torch.ones([3], { dtype }).requiresGrad_(true);
    const product = kept.mul(mean);
    const running = { mean, variance, keep: 0.8, weights: [0.15, 0.05] };
    groupedBatchNorm(x, { weight: null, bias: null, sizes: [4, 2], interleaved: false, eps: 0, running });
    const [means, variances] = groupMoments(x, [4, 2]);
    const [a, b] = [means.at(0), means.at(1)];
    assertClose(mean, before[0].mul(0.8).add(a.mul(0.15)).add(b.mul(0.05)), { atol: 1e-12 });
    const unbiased = variances.at(0).mul(0.15 * (4 / 3)).add(variances.at(1).mul(0.05 * 2)); // prettier-ignore
    assertClose(variance, before[1].mul(0.8).add(unbiased), { atol: 1e-12 });
    assert.throws(() => {
      product.sum().backward();
    }, /modified by an inplace operation/);
  });

  it('count batches, and move running statistics in any dtype and any memory', () => {
    const tracked = torch.zeros([], { dtype: 'int64' });
    countBatches(tracked, 3);
    assert.equal(countBatch(tracked, 0.25), 0.25);
    assert.equal(countBatch(tracked, null), 1 / 5);
    assert.equal(tracked.itemSync(), 5);
    assert.throws(() => countBatches(torch.zeros([1], { dtype: 'int64' }), 1), /int64 without dimensions/);
    assert.throws(() => countBatches(torch.tensor(0.5), 1), /int64 without dimensions/);

    const [mean, variance] = [random(4), random(4).square()];
    const expected = (start: number, found: Tensor, factor: number): Tensor => found.mul(0.1 * factor).add(0.9 * start);
    for (const type of ['float64', 'float32', 'bfloat16', 'float16'] as const) {
      const every = torch.zeros([4, 2], { dtype: type });
      const running = { runningMean: torch.ones([4], { dtype: type }), runningVar: every.select(1, 1).fill_(2) };
      moveStatistics(running, { mean, variance, factor: 1.5 }, 0.1);
      const atol = { float64: 1e-12, float32: 1e-6, bfloat16: 2e-2, float16: 2e-3 }[type];
      assertClose(running.runningMean.to('float64'), expected(1, mean, 1), { atol });
      assertClose(running.runningVar.to('float64'), expected(2, variance, 1.5), { atol });
      assert.equal(every.select(1, 0).countNonzero().itemSync(), 0);
    }
    // By operators, as on other devices.
    const away = (...shape: number[]): Tensor => torch.zeros(shape, { device: 'meta' });
    countBatches(torch.zeros([], { dtype: 'int64', device: 'meta' }), 1);
    moveStatistics({ runningMean: away(4), runningVar: away(4) }, { mean: away(4), variance: away(4) }, 0.1);

    const ones = torch.ones([4]);
    const fixed = { runningMean: ones, runningVar: ones.select(0, 0).expand([4]) };
    assert.throws(() => moveStatistics(fixed, { mean, variance }, 0.1), /single memory location/);
    const own = { runningMean: ones, runningVar: ones };
    assert.throws(() => moveStatistics(own, { mean: torch.ones([3]), variance }, 0.1), /one shape/);
    assert.throws(() => moveStatistics(own, { mean: away(4), variance }, 0.1), /statistics are on cpu and meta/);
    const [w, n] = [torch.ones([4]).requiresGrad_(), torch.zeros([], { dtype: 'int64' })];
    for (const [kept, move] of [
      [ones, () => moveStatistics(own, { mean, variance }, 0.1)],
      [n, () => countBatches(n, 1)],
    ] as const) {
      const y = w.mul(kept).sum();
      move();
      assert.throws(() => y.backward(), /modified by an inplace operation/);
    }
  });

  it('compute by operators of LibTorch what the passes do not take', () => {
    const x = torch.randn([4, 6, 3, 3]);
    const half = x.to('float16');
    const running = { mean: torch.zeros([6]), variance: torch.ones([6]), keep: 0.5, weights: [0.25, 0.25] };
    const other = { ...running, mean: torch.zeros([6]), variance: torch.ones([6]) };
    const plain = { weight: torch.rand([6]), bias: torch.rand([6]), eps: 1e-3 };
    const near = { atol: 5e-3 };
    const wide = half.to('float32');
    for (const interleaved of [false, true]) {
      const batch = { ...plain, sizes: [2, 2], interleaved };
      const y = groupedBatchNorm(half, { ...batch, running });
      assert.equal(y.dtype, 'float16');
      assertClose(y.to('float32'), groupedBatchNorm(wide, { ...batch, running: other }), near);
      assertClose(running.mean, other.mean, near);
      assertClose(running.variance, other.variance, near);
    }
    for (const sizes of [[4], []]) {
      const [mean, variance] = groupMoments(half, sizes);
      assertClose(mean, groupMoments(wide, sizes)[0], near);
      assertClose(variance, groupMoments(wide, sizes)[1], near);
      const settings = { ...plain, sizes };
      assertClose(uncenteredNorm(half, settings).to('float32'), uncenteredNorm(wide, settings), near);
      const by = (x: Tensor): [Tensor, Tensor] => {
        const input = x.detach().clone().requiresGrad_(true);
        const statistics = { mean: mean.add(0.1), variance, ownMean: mean, share: torch.tensor(0.5) };
        const y = normalizeBy(input, plain.weight, plain.bias, statistics, sizes, 1e-3);
        return [y, grad(y, input, { gradOutputs: [x.detach().mul(0.1)] })[0]!];
      };
      const [found, expected] = [by(half), by(wide)];
      found.forEach((one, i) => {
        assertClose(one.to('float32'), expected[i]!, { atol: 2e-2 });
      });
    }
  });

  it('blend a batch with the ones before it', () => {
    const [rows, features] = [3, 5];
    for (const shifted of [false, true]) {
      const [mean, variance] = [random(features), torch.rand([features], { dtype })];
      const pastMeans = random(rows, features);
      const pastVariances = torch.rand([rows, features], { dtype });
      const pastValid = torch.tensor([1, 1, 0], { dtype }).unsqueeze(1).repeat([1, features]);
      const shift = { mean: random(rows, features), variance: random(rows, features) };
      const [means, variances] = shifted
        ? [pastMeans.add(shift.mean), pastVariances.add(shift.variance).sub(shift.mean.square())]
        : [pastMeans.clone(), pastVariances.clone()];
      const expected = Array.from({ length: features }, (_, c) => {
        const all = [[mean.select(0, c).itemSync(), variance.select(0, c).itemSync()] as const];
        for (const row of [0, 1]) {
          const [past, of] = [means, variances].map((values) => values.select(0, row).select(0, c).itemSync());
          if (of! >= 0) all.push([past!, of!]);
        }
        const centre = all.reduce((sum, [value]) => sum + value, 0) / all.length;
        const spread = all.reduce((sum, [value, of]) => sum + of + (value - centre) ** 2, 0) / all.length;
        return [centre, spread, 1 / all.length];
      });
      const window = { mean, variance, shift: shifted ? shift : null, batches: torch.tensor(4), burnIn: 5 };
      const state = [pastMeans, pastVariances, pastValid];
      const before = state.map((tensor) => tensor.clone());
      const found = torch.stack(blendWindow({ ...window, pastMeans, pastVariances, pastValid }), 1);
      assertClose(found, torch.tensor(expected, { dtype }), { atol: 1e-12 });
      const newest = [mean, variance, torch.zeros([features], { dtype })];
      state.forEach((tensor, i) => {
        assertClose(tensor.select(0, 0), newest[i]!, { atol: 0 });
        assertClose(tensor.narrow(0, 1, rows - 1), before[i]!.narrow(0, 0, rows - 1), { atol: 0 });
      });
      // Rows that do not follow one another in memory are moved by LibTorch's operators.
      const across = before.map((tensor) => tensor.t().contiguous().t()) as [Tensor, Tensor, Tensor];
      blendWindow({ ...window, pastMeans: across[0], pastVariances: across[1], pastValid: across[2] });
      across.forEach((tensor, i) => {
        assertClose(tensor, state[i]!, { atol: 0 });
      });
      // By operators, as on other devices.
      const half = [mean, variance].map((tensor) => tensor.to('float16')) as [Tensor, Tensor];
      const [means16, variances16, valid16] = before.map((tensor) => tensor.clone()) as [Tensor, Tensor, Tensor];
      const past = { pastMeans: means16, pastVariances: variances16, pastValid: valid16 };
      const short = torch.stack(blendWindow({ ...window, mean: half[0], variance: half[1], ...past }), 1);
      assert.equal(short.dtype, 'float16');
      assertClose(short.to('float64'), torch.tensor(expected, { dtype }), { atol: 2e-2 });
      assertClose(valid16, state[2]!, { atol: 0 });
    }
    const [one, two] = [torch.zeros([2]), torch.zeros([1, 2])];
    const window = { mean: one, variance: one, shift: null, batches: torch.tensor(0), burnIn: 0 };
    assert.throws(
      () => blendWindow({ ...window, pastMeans: two, pastVariances: torch.zeros([2, 2]), pastValid: two }),
      /one shape/,
    );
    assert.throws(() => blendWindow({ ...window, pastMeans: one, pastVariances: one, pastValid: one }), /\[rows, C\]/);
  });

  it('join the parts of a batch, forwards and backwards, also by operators of LibTorch', () => {
    const x = random(12, 3, 2);
    const [gradient, weight] = [random(12, 3, 2), random(3)];
    const parts = x.splitWithSizes([7, 5]);
    const joined = (of: Tensor, running: Tensor[] = []): JoinedBatch => {
      const rows = torch.stack(of.splitWithSizes([7, 5]).map(statisticsRow));
      const [runningMean = null, runningVar = null] = running;
      return joinBatch(rows, { runningMean, runningVar }, { momentum: 0.25, eps: 1e-3, dtype });
    };
    const running = [torch.zeros([3], { dtype }), torch.ones([3], { dtype })];
    const { count, mean, variance, inverse } = joined(x, running);
    const [own, biased] = groupMoments(x, [12]);
    assert.equal(count.itemSync(), 24);
    assertClose(mean, own, { atol: 1e-12 });
    assertClose(variance, biased, { atol: 1e-12 });
    assertClose(inverse, biased.add(1e-3).rsqrt(), { atol: 1e-12 });
    assertClose(running[0]!, own.mul(0.25), { atol: 1e-12 });
    assertClose(running[1]!, biased.mul((0.25 * 24) / 23).add(0.75), { atol: 1e-12 });

    const input = x.clone().requiresGrad_();
    const scale = weight.clone().requiresGrad_();
    const expected = torch.batchNorm(input, scale, torch.zeros([3], { dtype }), null, null, true, 0, 1e-3, true);
    expected.backward(gradient);
    const backward = (of: Tensor, g: Tensor, batch: JoinedBatch): Tensor[] => {
      const along = { ...batch, weight: weight.to(of.dtype) };
      const [ofs, gs] = [of.splitWithSizes([7, 5]), g.splitWithSizes([7, 5])];
      const rows = ofs.map((part, i) => gradientRow(gs[i]!, part, along));
      const sums = rows.map(([row]) => row).reduce((a, b) => a.add(b));
      const dx = ofs.map((part, i) => joinedGradient(gs[i]!, part, along, sums));
      return [torch.cat(dx), rows[0]![1].add(rows[1]![1]), rows[0]![2].add(rows[1]![2])];
    };
    const wanted = [input.grad!, scale.grad!, gradient.sum([0, 2])];
    backward(x, gradient, { count, mean, variance, inverse }).forEach((found, i) => {
      assertClose(found, wanted[i]!, { atol: 1e-12 });
    });
    const [short, shortGradient] = [x.to('float16'), gradient.to('float16')];
    const rough = joined(short);
    assertClose(rough.mean, mean, { atol: 2e-3 });
    assertClose(rough.variance, variance, { atol: 1e-2 });
    backward(short, shortGradient, rough).forEach((found, i) => {
      assertClose(found.to(dtype), wanted[i]!, { atol: 4e-2 });
    });
    // Elsewhere, without values.
    const away = joinBatch(
      torch.zeros([2, 7], { dtype, device: 'meta' }),
      { runningMean: null, runningVar: null },
      { momentum: 0, eps: 0, dtype: 'float32' },
    );
    assert.deepEqual([away.count.shape, away.mean.shape, away.inverse.dtype], [[], [3], 'float32']);

    const empty = x.narrow(0, 0, 0);
    const along = { count, mean, inverse, weight };
    assert.equal(statisticsRow(empty).countNonzero().itemSync(), 0);
    const [row, ...others] = gradientRow(empty, empty, along);
    assert.deepEqual(
      [row, ...others].map(({ shape }) => shape),
      [[6], [3], [3]],
    );
    assert.deepEqual(joinedGradient(empty, empty, along, row).shape, [0, 3, 2]);

    assert.throws(() => joinRows(torch.zeros([2, 6], { dtype })), /rows must be \[parts, 1 \+ 2C\] in float64/);
    assert.throws(() => joinRows(torch.zeros([2, 7])), /in Float/);
    const three = { runningMean: mean, runningVar: torch.ones([2]) };
    assert.throws(
      () => joinBatch(torch.zeros([2, 7], { dtype }), three, { momentum: 0, eps: 0, dtype }),
      /each running statistic must have 3 numbers/,
    );
    assert.throws(() => gradientRow(gradient, parts[0]!, along), /the gradient must have the shape of x/);
    assert.throws(() => joinedGradient(gradient, x, along, torch.zeros([5])), /sums must have 6 numbers/);
    assert.throws(() => joinedGradient(gradient, x, { ...along, mean: row }, row), /mean must have 3 numbers/);
  });

  it('refuse groups and parameters that do not fit', () => {
    const x = torch.randn([4, 3]);
    const plain = { weight: null, bias: null, eps: 0, interleaved: false, running: null };
    assert.throws(() => groupMoments(x, [3]), /there are 4 samples, but the groups have 3/);
    assert.throws(() => groupMoments(torch.randn([4]), [4]), /x must be \[N, C, \.\.\.\]/);
    assert.throws(() => groupMoments(torch.zeros([4, 3], { dtype: 'int64' }), [4]), /must be floating-point/);
    assert.throws(() => groupedBatchNorm(x, { ...plain, sizes: [4, 0] }), /groups must have samples/);
    assert.throws(() => groupedBatchNorm(x, { ...plain, sizes: [1, 3], interleaved: true }), /as many each/);
    assert.throws(() => groupedBatchNorm(x, { ...plain, sizes: [2, 2], weight: torch.ones([2]) }), /3 numbers/);
    assert.throws(
      () => ops.kontrast!.group_combine!(x, x, torch.ones([2]), torch.ones([3]), torch.ones([3]), [4]),
      /each coefficient must have 3 numbers/,
    );
  });
});
