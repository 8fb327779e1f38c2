import assert from 'node:assert/strict';
import { topScores, type TopScores, type TopScoresOptions } from '../../src/nn';
import { searchByBlocks } from '../../src/nn/top-scores';
import {
  getThreads,
  InvalidArgumentError,
  memory,
  resetPeakMemory,
  scope,
  setThreads,
  torch,
  type DType,
  type Tensor,
} from '../../src/torch';
import { assertClose } from '../support/close';

const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype });
const whole = (below: number, count: number): Tensor => torch.randint(0, below, [count], { dtype: 'int64' });
const table = (x: Tensor): number[][] => x.to('float64').toArraySync() as number[][];
const list = (x: Tensor | undefined): number[] => (x === undefined ? [] : (x.to('float64').toArraySync() as number[]));

/** The definition, as a loop over plain numbers. */
function byLoop(queries: Tensor, keys: Tensor, options: TopScoresOptions): { scores: number[][]; indices: number[][] } {
  const { count, similarity = 'dot' } = options;
  const [ofQueries, ofKeys] = [table(queries), table(keys)];
  const length = (x: number[]): number => Math.max(Math.hypot(...x), 1e-12);
  const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const score = (a: number[], b: number[]): number => {
    if (similarity === 'dot') return dot(a, b);
    if (similarity === 'cosine') return dot(a, b) / length(a) / length(b);
    return -a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
  };
  const [labels, otherLabels, ids, otherIds, least, most] = [
    options.queryLabels,
    options.keyLabels,
    options.queryIds,
    options.keyIds,
    options.atLeast,
    options.atMost,
  ].map(list) as [number[], number[], number[], number[], number[], number[]];
  const found = ofQueries.map((query, i) =>
    ofKeys
      .map((key, j) => ({ score: score(query, key), j }))
      .filter(({ score, j }) => {
        if (labels.length > 0 && labels[i] === otherLabels[j]) return false;
        if (ids.length > 0 && ids[i] === otherIds[j]) return false;
        return !(score < (least[i] ?? -Infinity)) && !(score > (most[i] ?? Infinity));
      })
      .sort((a, b) => b.score - a.score || a.j - b.j)
      .slice(0, count),
  );
  const filled = <T>(row: T[], filler: T): T[] => [...row, ...Array<T>(count - row.length).fill(filler)];
  return {
    scores: found.map((row) =>
      filled(
        row.map(({ score }) => score),
        -Infinity,
      ),
    ),
    indices: found.map((row) =>
      filled(
        row.map(({ j }) => j),
        -1,
      ),
    ),
  };
}

function assertSame(found: TopScores, expected: { scores: number[][]; indices: number[][] }, name: string): void {
  assertClose(found.scores, torch.tensor(expected.scores, { dtype: found.scores.dtype }), { atol: 1e-9 }, name);
  assert.deepEqual(table(found.indices), expected.indices, name);
}

describe('topScores', () => {
  it('finds what a loop finds, for every similarity, with labels, ids and limits', () => {
    scope(() => {
      for (const [n, m, d] of [
        [1, 1, 1],
        [3, 2, 4],
        [2, 9, 3],
        [5, 600, 7],
        [300, 270, 5],
      ] as const) {
        const [queries, keys] = [random([n, d]), random([m, d])];
        const excluded = {
          queryLabels: whole(3, n),
          keyLabels: whole(3, m),
          queryIds: whole(m, n),
          keyIds: whole(m, m),
        };
        for (const similarity of ['dot', 'cosine', 'euclidean'] as const) {
          // The loop takes its time over the largest.
          for (const count of n < 300 ? [1, 4, 30] : [30]) {
            if (n === 300 && similarity !== 'cosine') continue;
            const middle = byLoop(queries, keys, { count: 1, similarity }).scores.map(([best]) => best!);
            const limit = (by: number): Tensor => torch.tensor(middle, { dtype: 'float64' }).sub(by);
            for (const more of [{}, excluded, { atMost: limit(0.1), atLeast: limit(0.9) }, { atLeast: limit(0) }]) {
              const options = { count, similarity, ...more };
              const name = `${n}×${m}, ${JSON.stringify({ similarity, count })}, ${Object.keys(more).join()}`;
              const expected = byLoop(queries, keys, options);
              // A limit that is a score may be missed by rounding; it is looked at below.
              if (!('atLeast' in more) || 'atMost' in more)
                assertSame(topScores(queries, keys, options), expected, name);
              if (similarity !== 'euclidean' && !('atLeast' in more)) {
                const rows = similarity === 'cosine' ? queries.div(queries.norm(2, [1], true)) : queries;
                assertSame(searchByBlocks(rows, keys, options), expected, `${name}, by blocks`);
              }
            }
          }
        }
      }
    });
  });

  it('takes the earlier of equal keys, and scores at the limits', () => {
    scope(() => {
      const keys = torch.arange(1000, { dtype: 'float32' }).remainder(10).unsqueeze(1) as Tensor;
      const queries = torch.ones([2, 1]);
      const { scores, indices } = topScores(queries, keys, { count: 150 });
      assert.deepEqual(table(scores)[1]!.slice(98, 102), [9, 9, 8, 8]);
      assert.deepEqual(table(indices)[0]!.slice(98, 102), [989, 999, 8, 18]);
      const limits = { atLeast: torch.tensor([4, 4]), atMost: torch.tensor([5, 4]) };
      const within = topScores(queries, keys, { count: 201, ...limits });
      assert.deepEqual(table(within.scores)[0]!.slice(99, 101), [5, 4]);
      assert.equal(table(within.indices)[0]![200], -1);
      assert.deepEqual(table(within.scores)[1]!.slice(99, 101), [4, -Infinity]);
    });
  });

  it('gives the same for any number of threads, for few queries and many', () => {
    const before = getThreads();
    try {
      scope(() => {
        const keys = random([3001, 33], 'float32');
        for (const count of [1, 140, 700]) {
          const queries = random([count, 33], 'float32');
          const run = (threads: number, precision: 'exact' | 'bfloat16'): number[][] => {
            setThreads(threads);
            const { scores, indices } = topScores(queries, keys, { count: 10, precision });
            return [...table(scores), ...table(indices)];
          };
          for (const precision of ['exact', 'bfloat16'] as const) {
            assert.deepEqual(run(1, precision), run(2, precision));
            assert.deepEqual(run(1, precision), run(5, precision));
          }
        }
      });
    } finally {
      setThreads(before);
    }
  });

  it('scores exactly what products of bfloat16 found', () => {
    scope(() => {
      const [queries, keys] = [random([200, 65], 'float32'), random([20000, 65], 'float32')];
      for (const similarity of ['dot', 'cosine', 'euclidean'] as const) {
        const exact = topScores(queries, keys, { count: 20, similarity });
        const found = topScores(queries, keys, { count: 20, similarity, precision: 'bfloat16' });
        const missed = exact.indices.ne(found.indices).any(1).sum().itemSync();
        assert.ok(missed <= 2, `${missed} of 200 queries missed a key`);
        assertClose(found.scores, exact.scores, { atol: 2e-3 });
        const same = exact.indices.eq(found.indices);
        assertClose(found.scores.maskedSelect(same), exact.scores.maskedSelect(same), { atol: 2e-5 });
      }
    });
  });

  it('reads keys of other types part by part', () => {
    scope(() => {
      const [queries, keys] = [random([3, 4], 'float32'), random([140_000, 4], 'bfloat16')];
      const keyIds = torch.arange(140_000, { dtype: 'int64' });
      const queryIds = topScores(queries, keys, { count: 1 }).indices.squeeze(1);
      const expected = topScores(queries, keys.to('float32'), { count: 9, queryIds, keyIds });
      const found = topScores(queries, keys, { count: 9, queryIds, keyIds });
      assert.deepEqual(table(found.indices), table(expected.indices));
      assert.ok(!found.indices.eq(queryIds.unsqueeze(1)).any().itemSync());
      assertClose(found.scores, expected.scores, { atol: 1e-6 });
    });
  });

  it('holds no matrix of scores', () => {
    scope(() => {
      const [queries, keys] = [random([3000, 8], 'float32'), random([50_000, 8], 'float32')];
      resetPeakMemory();
      const before = memory().cpuBytes;
      topScores(queries, keys, { count: 10, similarity: 'cosine' });
      // The scores would be 600 MB.
      assert.ok(memory().peakCpuBytes - before < 4e6, String(memory().peakCpuBytes - before));
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const [queries, keys] = [random([3, 2]), random([5, 2])];
      const refuses = (options: Partial<TopScoresOptions>, message: RegExp, other = keys): void => {
        assert.throws(
          () => topScores(queries, other, { count: 2, ...options }),
          (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
        );
      };
      refuses({ count: 0 }, /count must be an integer of at least 1/);
      refuses({}, /queries have 2 dimensions, keys 3/, random([5, 3]));
      refuses({}, /keys must be a floating-point matrix, found int64 of shape \[5\]/, whole(2, 5));
      refuses({}, /no queries or no keys/, random([0, 2]));
      refuses({ queryLabels: whole(2, 3) }, /labels come for queries and keys/);
      refuses({ queryIds: whole(2, 3) }, /ids come for queries and keys/);
      refuses({ queryIds: random([3]), keyIds: whole(2, 5) }, /queryIds must be int64, found float64/);
      refuses({ atMost: random([2]) }, /atMost must have the shape \[3\], found \[2\]/);
      refuses({ atMost: random([3]), precision: 'bfloat16' }, /limits need exact scores/);
    });
  });
});
