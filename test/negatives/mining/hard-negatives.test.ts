import assert from 'node:assert/strict';
import fc from 'fast-check';
import { contrast } from '../../../src/contrast';
import { MappedBank, Queue } from '../../../src/memory';
import {
  HardNegativeMiner,
  minedRows,
  minedWeights,
  mineHardNegatives,
  negativeRows,
  type NegativeLimits,
  type HardNegatives,
} from '../../../src/negatives/mining';
import { Generator, memory, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { scratch } from '../../support/scratch';
import { assertRefuses, cosine, dot, rowsOf, squared } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 8 });
const random = (...shape: number[]): Tensor => torch.randn(shape, { dtype: 'float64', generator }).to({ device });
const measures = {
  cosine,
  dot,
  euclidean: (a: readonly number[], b: readonly number[]) => -squared(a, b),
};

interface Limits extends NegativeLimits {
  labels?: number[];
  keyLabels?: number[];
  ids?: number[];
  keyIds?: number[];
  positives?: number[][];
  own?: number[];
}

/** Ranked keys of each query by a loop: those at ranks that are looked at. */
function ranked(queries: number[][], keys: number[][], limits: Limits): { row: number; score: number }[][] {
  const { similarity = 'cosine', absoluteMargin, relativeMargin, scores, ranks = [0, Infinity] } = limits;
  return queries.map((query, q) => {
    const positives = (limits.positives?.[q] ?? []).filter((row) => row >= 0);
    const own = limits.own?.[q] ?? Math.min(...positives.map((row) => measures[similarity](query, keys[row]!)));
    return keys
      .map((key, row) => ({ row, score: measures[similarity](query, key) }))
      .filter(({ row, score }) => {
        if (positives.includes(row)) return false;
        if (limits.labels !== undefined && limits.labels[q] === limits.keyLabels![row]) return false;
        if (limits.ids !== undefined && limits.ids[q] === limits.keyIds![row]) return false;
        if (absoluteMargin !== undefined && score > own - absoluteMargin) return false;
        if (relativeMargin !== undefined && score > own - Math.abs(own) * relativeMargin) return false;
        return scores === undefined || (score >= scores[0] && score <= scores[1]);
      })
      .sort((a, b) => b.score - a.score)
      .slice(ranks[0], ranks[1]);
  });
}

/** The hardest are those of the loop. */
function assertTop(found: HardNegatives, expected: { row: number; score: number }[][], count: number): void {
  const [indices, scores] = [rowsOf(found.indices), rowsOf(found.scores)];
  expected.forEach((all, q) => {
    const wanted = all.slice(0, count);
    assert.equal(indices[q]!.length, count);
    assert.deepEqual(indices[q], [
      ...wanted.map(({ row }) => row),
      ...(Array(count - wanted.length).fill(-1) as number[]),
    ]);
    scores[q]!.forEach((score, i) => {
      if (i < wanted.length) assert.ok(Math.abs(score - wanted[i]!.score) < 1e-10);
      else assert.equal(score, -Infinity);
    });
  });
  assert.deepEqual(
    integersOf(found.found),
    expected.map((all) => Math.min(count, all.length)),
  );
}

describe('mineHardNegatives', () => {
  const file = scratch();

  it('does as a loop under any limits', () => {
    fc.assert(
      fc.property(
        fc.record({
          queries: fc.integer({ min: 1, max: 4 }),
          keys: fc.integer({ min: 1, max: 9 }),
          count: fc.integer({ min: 1, max: 4 }),
          similarity: fc.constantFrom('cosine' as const, 'dot' as const, 'euclidean' as const),
          useLabels: fc.boolean(),
          useIds: fc.boolean(),
          positives: fc.integer({ min: 0, max: 2 }),
          absoluteMargin: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
          relativeMargin: fc.option(fc.double({ min: 0, max: 0.5, noNaN: true }), { nil: undefined }),
          scores: fc.constantFrom(undefined, [-1, 0.5] as const, [-0.2, 2] as const),
          ranks: fc.constantFrom(undefined, [1, Infinity] as const, [0, 2] as const, [2, 3] as const),
          seed: fc.integer({ min: 0, max: 1000 }),
        }),
        (c) =>
          scope(() => {
            const draws = new Generator({ seed: c.seed });
            const integers = (count: number, below: number) =>
              integersOf(torch.randint(below, [count], { generator: draws, dtype: 'int64' }));
            const [queries, keys] = [random(c.queries, 3), random(c.keys, 3)];
            const hasMargin = c.absoluteMargin !== undefined || c.relativeMargin !== undefined;
            const options: NegativeLimits = {
              count: c.count,
              similarity: c.similarity,
              ...(c.absoluteMargin !== undefined && { absoluteMargin: c.absoluteMargin }),
              ...(c.relativeMargin !== undefined && { relativeMargin: c.relativeMargin }),
              ...(c.scores && { scores: c.scores }),
              ...(c.ranks && { ranks: c.ranks }),
            };
            const limits: Limits = { ...options };
            if (c.useLabels) Object.assign(limits, { labels: integers(c.queries, 3), keyLabels: integers(c.keys, 3) });
            if (c.useIds) Object.assign(limits, { ids: integers(c.queries, 4), keyIds: integers(c.keys, 4) });
            if (c.positives > 0 || hasMargin) {
              limits.positives = Array.from({ length: c.queries }, () =>
                integers(Math.max(1, c.positives), c.keys + 1).map((row) => row - 1),
              );
            }
            const { labels, keyLabels, ids, keyIds, positives } = limits;
            const found = mineHardNegatives({
              ...options,
              queries,
              keys: {
                embeddings: keys,
                ...(keyLabels && { labels: labelsOf(keyLabels) }),
                ...(keyIds && { ids: labelsOf(keyIds) }),
              },
              ...(labels && { labels: labelsOf(labels) }),
              ...(ids && { ids: labelsOf(ids) }),
              ...(positives && {
                positives: torch.tensor(
                  positives.map((row) => row.map(BigInt)),
                  { device },
                ),
              }),
            });
            assertTop(found, ranked(rowsOf(queries), rowsOf(keys), limits), c.count);
          }),
      ),
      { numRuns: 120, seed: 4 },
    );
  });

  it('goes by the scores or embeddings of positives that are not among the keys', () => {
    scope(() => {
      const [queries, keys, positives] = [random(4, 3), random(20, 3), random(4, 2, 3)];
      const [q, p] = [rowsOf(queries), rowsOf(positives.flatten(0, 1))];
      const own = q.map((row, i) => Math.min(cosine(row, p[2 * i]!), cosine(row, p[2 * i + 1]!)));
      const limits = { absoluteMargin: 0.1, count: 3 };
      const expected = ranked(q, rowsOf(keys), { ...limits, own });
      assertTop(mineHardNegatives({ queries, keys, positiveEmbeddings: positives, ...limits }), expected, 3);
      const positiveScores = torch.tensor(own, { dtype: 'float64', device });
      assertTop(mineHardNegatives({ queries, keys, positiveScores, ...limits }), expected, 3);
      const one = positives.select(1, 0);
      const first = ranked(q, rowsOf(keys), { ...limits, own: q.map((row, i) => cosine(row, p[2 * i]!)) });
      assertTop(mineHardNegatives({ queries, keys, positiveEmbeddings: one, ...limits }), first, 3);
    });
  });

  it('finds the same in a queue, a bank in a file, and batches one after the other', () => {
    scope(() => {
      const [queries, keys] = [random(3, 4).to('float32'), random(11, 4).to('float32')];
      const [labels, keyLabels] = [
        [0, 1, 2],
        [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1],
      ];
      const options = { queries, labels: labelsOf(labels), count: 4 };
      const expected = integersOf(
        mineHardNegatives({ ...options, keys: { embeddings: keys, labels: labelsOf(keyLabels) } }).indices,
      );
      const batches = [0, 5, 5, 11].slice(1).map((end, i, ends) => {
        const start = ends[i - 1] ?? 0;
        return {
          embeddings: keys.narrow(0, start, end - start),
          labels: labelsOf(keyLabels.slice(start, end)).to('int64'),
        };
      });
      assert.deepEqual(integersOf(mineHardNegatives({ ...options, keys: batches }).indices), expected);
      using bank = MappedBank.create(file('bank'), { size: 11, dimension: 4, labels: true });
      bank.write(0, keys, { labels: labelsOf(keyLabels) });
      assert.deepEqual(integersOf(mineHardNegatives({ ...options, keys: bank }).indices), expected);
      const queue = new Queue({ size: 11, dimension: 4, device });
      queue.enqueue(keys);
      const all = mineHardNegatives({ queries, keys: queue.candidates(), count: 2 });
      assert.deepEqual(integersOf(all.indices), integersOf(mineHardNegatives({ queries, keys, count: 2 }).indices));
    });
  });

  it('holds the parts of a bank one at a time, and leaves nothing behind', () => {
    using bank = MappedBank.create(file('bank'), { size: 5, dimension: 4, dtype: 'int8' });
    bank.write(0, random(5, 4));
    const queries = random(2, 4);
    const before = memory().liveTensors;
    scope(() => void mineHardNegatives({ queries, keys: bank }));
    assert.equal(memory().liveTensors, before);
  });

  it('draws of the ranks that are looked at, each equally likely, none twice', () => {
    scope(() => {
      const [queries, keys] = [random(1, 3).expand([300, 3]), random(12, 3)];
      const limits = { count: 2, ranks: [1, 5] as const };
      const allowed = ranked(rowsOf(queries.narrow(0, 0, 1)), rowsOf(keys), limits)[0]!.map(({ row }) => row);
      const found = mineHardNegatives({ queries, keys, ...limits, choose: 'random' });
      const counts = new Map(allowed.map((row) => [row, 0]));
      for (const [first, second] of rowsOf(found.indices) as [number, number][]) {
        assert.ok(allowed.indexOf(first) < allowed.indexOf(second), 'best first');
        for (const row of [first, second]) counts.set(row, counts.get(row)! + 1);
      }
      assert.equal(counts.size, 4);
      for (const count of counts.values()) assert.ok(Math.abs(count - 150) < 40, `${count} of 150`);
      const few = mineHardNegatives({ queries, keys: keys.narrow(0, 0, 3), ...limits, count: 4, choose: 'random' });
      assert.deepEqual(integersOf(few.found).slice(0, 2), [2, 2]);
      assert.deepEqual(rowsOf(few.indices)[0]!.slice(2), [-1, -1]);
    });
  });

  it('draws anew each time, and goes on from a state with the same draws', () => {
    scope(() => {
      const [queries, keys] = [random(8, 3), random(40, 3)];
      const options = { count: 3, choose: 'random', ranks: [0, 20] } as const;
      const [first, second] = [new HardNegativeMiner(options), new HardNegativeMiner({ ...options, seed: 3 })];
      const draw = (miner: HardNegativeMiner) => integersOf(miner.mine({ queries, keys }).indices);
      const before = draw(first);
      second.loadStateDict(first.stateDict());
      const after = draw(first);
      assert.notDeepEqual(after, before);
      assert.deepEqual(draw(second), after);
      const state = first.stateDict().tensors.get('generator')!;
      assertRefuses(
        () => first.mine({ queries, keys, labels: labelsOf([1]) }),
        /HardNegativeMiner: labels must be int64/,
      );
      assert.ok(state.equal(first.stateDict().tensors.get('generator')!));
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const [queries, keys] = [random(2, 3), random(5, 3)];
      const labels = labelsOf([0, 1]);
      const refuses = (more: object, message: RegExp) => {
        assertRefuses(() => mineHardNegatives({ queries, keys, ...more }), message);
      };
      refuses({ queries: queries.to('int64') }, /queries must be floating-point/);
      refuses({ keys: random(5, 4) }, /keys must be floating-point \[K, 3\]/);
      refuses({ labels }, /queries have labels, the keys have none/);
      refuses({ ids: labels }, /queries have ids, the keys have none/);
      refuses({ labels: labelsOf([0]) }, /labels must be int64 \[2\]/);
      refuses({ count: 0 }, /count/);
      refuses({ ranks: [2, 2] }, /the end of ranks/);
      refuses({ ranks: [0, Infinity], choose: 'random' }, /random negatives need an end of ranks/);
      refuses({ choose: 'worst' }, /choose must be/);
      refuses({ similarity: 'l1' }, /similarity must be/);
      refuses({ scores: [1, 0] }, /scores must be/);
      refuses({ absoluteMargin: NaN }, /absoluteMargin must be a number/);
      refuses({ absoluteMargin: 0.1 }, /a margin needs positives/);
      refuses({ relativeMargin: 0.1, keys: [{ embeddings: keys }], positives: labels }, /cannot be looked up/);
      refuses({ positives: queries }, /positives must be int64/);
      refuses({ positiveEmbeddings: keys }, /positiveEmbeddings must be/);
      refuses({ positiveScores: random(3) }, /positiveScores must be/);
    });
  });
});

describe('what becomes of hard negatives', () => {
  const mined = (indices: number[][]): HardNegatives =>
    scope(() => {
      const rows = torch.tensor(
        indices.map((row) => row.map(BigInt)),
        { device },
      );
      return { indices: rows, scores: rows.to('float64'), found: rows.ge(0).sum([1]) };
    });

  it('own negatives: what is missing is repeated, or the opposite of the query', () => {
    scope(() => {
      const [queries, keys] = [random(3, 2), random(5, 2)];
      const [q, k] = [rowsOf(queries), rowsOf(keys)];
      const found = mined([
        [4, 2, 0],
        [1, 3, -1],
        [-1, -1, -1],
      ]);
      const opposite = q[2]!.map((x) => -x);
      const repeated = negativeRows(found, queries, keys);
      assert.deepEqual(rowsOf(repeated.negatives.flatten(0, 1)), [
        k[4],
        k[2],
        k[0],
        k[1],
        k[3],
        k[1],
        opposite,
        opposite,
        opposite,
      ]);
      assert.deepEqual(numbers(repeated.isMined), [1, 1, 1, 1, 1, 0, 0, 0, 0]);
      const { negatives } = negativeRows(found, queries, { embeddings: keys }, { missing: 'opposite' });
      assert.deepEqual(
        rowsOf(negatives.flatten(0, 1))[5],
        q[1]!.map((x) => -x),
      );
      const loss = contrast({ anchors: queries.requiresGrad_(), positives: queries, negatives });
      assert.ok(Number.isFinite(loss.itemSync()));
      assert.equal(negatives.requiresGrad, false);
      assertRefuses(() => negativeRows(found, random(2, 2), keys), /queries must be \[3, D\]/);
      assertRefuses(() => negativeRows(found, queries, [{ embeddings: keys }]), /cannot be looked up/);
      assertRefuses(() => negativeRows(found, queries, keys, { missing: 'x' as 'repeat' }), /missing must be/);
    });
  });

  it('positions for a loader: each once, ascending', () => {
    assert.deepEqual(
      minedRows(
        mined([
          [4, 2],
          [2, -1],
          [0, 4],
        ]),
      ),
      Int32Array.of(0, 2, 4),
    );
    assert.deepEqual(minedRows(mined([[-1]])), new Int32Array());
  });

  it('weights by how often a key was mined, which contrast takes', () => {
    scope(() => {
      const weights = minedWeights(
        mined([
          [4, 2],
          [2, -1],
        ]),
        5,
        { dtype: 'float64' },
      );
      assert.deepEqual(numbers(weights), [0, 0, 1, 0, 0.5]);
      assert.deepEqual(numbers(minedWeights(mined([[-1]]), 2)), [1, 1]);
      const [queries, keys] = [random(2, 3), random(5, 3)];
      const options = { anchors: queries, positives: random(2, 3) };
      const weighted = contrast({ ...options, candidates: { embeddings: keys, logWeights: weights.log() } });
      const only = contrast({
        ...options,
        candidates: {
          embeddings: keys.indexSelect(0, labelsOf([2, 4])),
          logWeights: torch.tensor([0, Math.log(0.5)], { dtype: 'float64', device }),
        },
      });
      assert.ok(Math.abs((weighted.itemSync() as number) - (only.itemSync() as number)) < 1e-10);
    });
  });
});
