import assert from 'node:assert/strict';
import type { Candidates, ContrastOptions, ScoreSimilarity } from '../../src/contrast';
import { diagnose, type Diagnosis } from '../../src/contrast/diagnostics';
import { InvalidArgumentError, memory, resetPeakMemory, scope, torch, type DType, type Tensor } from '../../src/torch';

const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype });
const whole = (below: number, count: number): Tensor => torch.randint(0, below, [count], { dtype: 'int64' });
const list = (x: Tensor): number[] => Array.from(x.detach().dataSync() as ArrayLike<number | bigint>, Number);
const table = (x: Tensor): number[][] => x.detach().to('float64').toArraySync() as number[][];

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

function similarityOf(a: number[], b: number[], similarity: ScoreSimilarity): number {
  if (similarity === 'dot') return dot(a, b);
  if (similarity === 'cosine') return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  return -a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
}

/** The similarities of every anchor's positives and negatives, and how many pairs there are. */
function pairsOf(options: ContrastOptions): { positives: number[][]; negatives: number[][]; count: number } {
  const { anchors, candidates, similarity = 'cosine' } = options;
  const blocks = candidates === undefined ? [] : 'embeddings' in candidates ? [candidates] : candidates;
  let count = 0;
  const rows = table(anchors).map((anchor, i) => {
    const found = { positives: [] as number[], negatives: [] as number[] };
    for (const block of blocks) {
      table(block.embeddings).forEach((candidate, j) => {
        count++;
        const agree = (key: 'labels' | 'ids'): boolean =>
          options[key] !== undefined && block[key] !== undefined && list(options[key])[i] === list(block[key])[j];
        if (agree('ids')) return;
        const isPositive = agree('labels');
        if (!isPositive && options.guides && block.guides) {
          const score = dot(table(options.guides)[i]!, table(block.guides)[j]!);
          if (score > list(options.guideLimits!)[i]!) return;
        }
        found[isPositive ? 'positives' : 'negatives'].push(similarityOf(anchor, candidate, similarity));
      });
    }
    for (const set of ['positives', 'negatives'] as const) {
      const own = options[set];
      if (own === undefined) continue;
      for (const other of table((own.ndim === 2 ? own.unsqueeze(1) : own).at(i))) {
        count++;
        found[set].push(similarityOf(anchor, other, similarity));
      }
    }
    return found;
  });
  return { positives: rows.map((row) => row.positives), negatives: rows.map((row) => row.negatives), count };
}

const mean = (x: number[]): number | null =>
  x.length === 0 ? null : x.reduce((sum, value) => sum + value, 0) / x.length;

/** The definitions, over plain numbers. */
function byLoop(options: ContrastOptions, range: readonly [number, number], bins: number): Diagnosis {
  const { similarity = 'cosine', temperature = 0.07 } = options;
  const { positives, negatives, count } = pairsOf(options);
  const taus = positives.map((_, i) =>
    typeof temperature === 'number' ? temperature : list(temperature)[temperature.numel() === 1 ? 0 : i]!,
  );
  const summary = (rows: number[][]): Diagnosis['positives'] => {
    const all = rows.flat();
    const middle = mean(all);
    return {
      pairs: all.length,
      mean: middle,
      variance: mean(all.map((value) => (value - middle!) ** 2)),
    };
  };
  const distance = (s: number): number => (similarity === 'cosine' ? 2 - 2 * s : -s);
  const shares = negatives.map((row, i) => {
    const most = Math.max(...row);
    const terms = row.map((s) => Math.exp((s - most) / taus[i]!));
    const sum = terms.reduce((a, b) => a + b, 0);
    return terms.map((term) => term / sum);
  });
  const some = shares.filter((row) => row.length > 0);
  const margins = positives.flatMap((row, i) =>
    row.length > 0 && negatives[i]!.length > 0 ? [mean(row)! - Math.max(...negatives[i]!)] : [],
  );
  const spread = mean(negatives.flat().map((s) => Math.exp(-2 * distance(s))));
  const [from, to] = range;
  const histogram = (rows: number[][]): number[] => {
    const counts = new Array<number>(bins).fill(0);
    for (const s of rows.flat()) {
      counts[Math.min(bins - 1, Math.max(0, Math.floor(((s - from) / (to - from)) * bins)))]!++;
    }
    return counts;
  };
  return {
    positives: summary(positives),
    negatives: summary(negatives),
    alignment: similarity === 'dot' ? null : mean(positives.flat().map(distance)),
    uniformity: similarity === 'dot' || spread === null ? null : Math.log(spread),
    effectiveNegatives: mean(some.map((row) => 1 / row.reduce((sum, p) => sum + p * p, 0))),
    negativePerplexity: mean(
      some.map((row) => Math.exp(-row.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0))),
    ),
    hardestNegativeMargin: mean(margins),
    accuracy: mean(margins.map((margin) => Number(margin > 0))),
    maskedShare: 1 - (positives.flat().length + negatives.flat().length) / count,
    temperature: mean(taus)!,
    bias: options.bias === undefined ? null : options.bias.itemSync(),
    histogram: {
      edges: Array.from({ length: bins + 1 }, (_, i) => from + ((to - from) * i) / bins),
      positives: histogram(positives),
      negatives: histogram(negatives),
    },
  };
}

function assertNear(found: unknown, expected: unknown, tolerance: number, path = ''): void {
  if (typeof expected === 'object' && expected !== null) {
    assert.deepEqual(Object.keys(found as object), Object.keys(expected), path);
    for (const [key, value] of Object.entries(expected)) {
      assertNear((found as Record<string, unknown>)[key], value, tolerance, `${path}.${key}`);
    }
  } else if (typeof expected === 'number') {
    const difference = Math.abs((found as number) - expected);
    assert.ok(difference <= tolerance * (1 + Math.abs(expected)), `${path}: ${String(found)}, expected ${expected}`);
  } else assert.equal(found, expected, path);
}

function problem(n: number, m: number, similarity: ScoreSimilarity): ContrastOptions {
  const shared = (count: number): Candidates => ({
    embeddings: random([count, 3]).requiresGrad_(),
    labels: whole(4, count),
    ids: whole(2 * n, count),
    guides: random([count, 2]),
  });
  return {
    anchors: random([n, 3]).requiresGrad_(),
    candidates: [shared(m), { embeddings: random([m + 1, 3]) }],
    labels: whole(4, n),
    ids: whole(2 * n, n),
    guides: random([n, 2]),
    guideLimits: random([n]),
    positives: random([n, 2, 3]),
    negatives: random([n, 2, 3]),
    similarity,
    temperature: 0.3,
    bias: torch.tensor(-2, { dtype: 'float64' }),
    margin: 0.4,
  };
}

describe('diagnose', () => {
  for (const execution of ['dense', 'tiled'] as const) {
    it(`gives what a loop gives: ${execution}`, () => {
      scope(() => {
        for (const similarity of ['cosine', 'dot', 'euclidean'] as const) {
          const range = similarity === 'cosine' ? ([-1, 1] as const) : ([-6, 4] as const);
          for (const [n, m] of [
            [1, 2],
            [5, 3],
            [17, 9],
          ] as const) {
            const options = { ...problem(n, m, similarity), execution };
            for (const temperature of [
              0.3,
              torch.tensor([0.2], { dtype: 'float64' }).requiresGrad_(),
              torch.rand([n], { dtype: 'float64' }).add(0.2),
            ]) {
              const how = { level: 'full', histogram: { bins: 7, range } } as const;
              const found = diagnose({ ...options, temperature }, how);
              assertNear(found, byLoop({ ...options, temperature }, range, 7), 1e-10, `${similarity} ${n}`);
            }
          }
        }
      });
    });

    it(`gives null where there is nothing, and what JSON holds: ${execution}`, () => {
      scope(() => {
        const anchors = random([3, 2]);
        const nothing = diagnose(
          {
            anchors,
            candidates: { embeddings: random([2, 2]), ids: torch.tensor([1n, 1n]) },
            ids: torch.tensor([1n, 1n, 1n]),
            execution,
          },
          { level: 'full', histogram: {} },
        );
        assert.deepEqual(nothing.positives, { pairs: 0, mean: null, variance: null });
        assert.equal(nothing.maskedShare, 1);
        for (const key of [
          'alignment',
          'uniformity',
          'effectiveNegatives',
          'negativePerplexity',
          'accuracy',
        ] as const) {
          assert.equal(nothing[key], null, key);
        }
        const only = diagnose({ anchors, positives: anchors, execution });
        assert.equal(only.effectiveNegatives, null);
        assert.equal(only.hardestNegativeMargin, null);
        assert.ok(Math.abs(only.alignment!) < 1e-12);
        for (const found of [nothing, only]) assert.deepEqual(JSON.parse(JSON.stringify(found)), found);
      });
    });
  }

  it('counts negatives that matter: all of them when they are alike, one when it is far above the rest', () => {
    scope(() => {
      const anchors = torch.tensor([[1, 0]], { dtype: 'float32' });
      const alike = { anchors, candidates: { embeddings: torch.ones([50, 2]) } };
      const near = torch.tensor([[1, 0], [-1, 0], [-1, 0.1]]); // prettier-ignore
      for (const level of ['cheap', 'full'] as const) {
        const found = diagnose(alike, { level });
        assertNear(found.effectiveNegatives, 50, 1e-4);
        assertNear(found.negativePerplexity, level === 'full' ? 50 : null, 1e-4);
        assertNear(
          diagnose({ anchors, candidates: { embeddings: near }, temperature: 0.005 }).effectiveNegatives,
          1,
          1e-4,
        );
      }
    });
  });

  it('records no graph, leaves gradients alone and holds no matrix of scores', () => {
    scope(() => {
      const n = 3000;
      const anchors = random([n, 8], 'float32').requiresGrad_();
      const embeddings = random([n, 8], 'float32').requiresGrad_();
      const labels = torch.arange(n, { dtype: 'int64' });
      resetPeakMemory();
      const before = memory().cpuBytes;
      diagnose({ anchors, candidates: { embeddings, labels }, labels }, { level: 'full' });
      // The matrix would be 36 MB.
      assert.ok(memory().peakCpuBytes - before < 10e6, String(memory().peakCpuBytes - before));
      const { histogram } = diagnose({ anchors, candidates: { embeddings, labels }, labels }, { histogram: {} });
      assert.equal(
        histogram!.negatives.reduce((sum, count) => sum + count, 0),
        n * (n - 1),
      );
      assert.equal(anchors.grad, null);
    });
  });

  it('refuses histograms without bins or range, and what the objective refuses', () => {
    scope(() => {
      const [anchors, candidates] = [random([2, 3]), { embeddings: random([4, 3]) }];
      const refuses = (run: () => unknown, message: RegExp): void => {
        assert.throws(run, (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message));
      };
      const similarity = 'dot';
      refuses(
        () => diagnose({ anchors, candidates }, { histogram: { bins: 0 } }),
        /bins must be an integer of at least 1/,
      );
      refuses(
        () => diagnose({ anchors, candidates, similarity }, { histogram: {} }),
        /a histogram of 'dot' needs a range/,
      );
      refuses(
        () => diagnose({ anchors, candidates }, { histogram: { range: [1, 0] } }),
        /from a number to a greater one, found 1 to 0/,
      );
      refuses(() => diagnose({ anchors, candidates: { embeddings: random([4, 2]) } }), /expected shape \[N, 3\]/);
    });
  });
});
