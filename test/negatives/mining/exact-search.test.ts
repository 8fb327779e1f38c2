import assert from 'node:assert/strict';
import fc from 'fast-check';
import { topScores } from '../../../src/nn';
import { ownScores, searchParts, type SearchLimits } from '../../../src/negatives/mining/exact-search';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { device } from '../../support/device';
import { cosine, dot, rowsOf, squared } from '../../contrast/objectives/plain';
import { labelsOf } from './plain';

const generator = new Generator({ seed: 2 });
const random = (...shape: number[]): Tensor => torch.randn(shape, { dtype: 'float64', generator }).to({ device });
const measures = { cosine, dot, euclidean: (a: number[], b: number[]) => -squared(a, b) };
type Similarity = keyof typeof measures;

/** Scores that are right, in order, and belong to their indices. Of equal scores any index will do, but none twice. */
function assertTop(found: { scores: Tensor; indices: Tensor }, scores: number[][], count: number): void {
  const [values, indices] = [rowsOf(found.scores), rowsOf(found.indices)];
  scores.forEach((row, q) => {
    const expected = row
      .filter((x) => x > -Infinity)
      .sort((a, b) => b - a)
      .slice(0, count);
    assert.equal(values[q]!.length, count);
    const seen = indices[q]!.filter((index) => index >= 0);
    assert.equal(new Set(seen).size, expected.length);
    values[q]!.forEach((value, i) => {
      if (i >= expected.length) assert.deepEqual([value, indices[q]![i]], [-Infinity, -1]);
      else {
        assert.ok(Math.abs(value - expected[i]!) < 1e-10, `${value}, not ${expected[i]}`);
        assert.ok(Math.abs(value - row[indices[q]![i]!]!) < 1e-10);
      }
    });
  });
}

describe('exact search', () => {
  it('finds the best of any sizes, ids left out, ties included', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom<Similarity>('cosine', 'dot', 'euclidean'),
        fc.boolean(),
        (queries, keys, count, similarity, useIds) =>
          scope(() => {
            // Whole numbers: many scores are alike.
            const whole = (rows: number) => random(rows, 2).mul(1.5).round().add(0.25);
            const [q, k] = [whole(queries), whole(keys)];
            const [queryIds, keyIds] = [queries, keys].map((size) => Array.from({ length: size }, (_, i) => i % 3));
            const scores = rowsOf(q).map((a, i) =>
              rowsOf(k).map((b, j) => (useIds && queryIds![i] === keyIds![j] ? -Infinity : measures[similarity](a, b))),
            );
            const ids = useIds ? { queryIds: labelsOf(queryIds!), keyIds: labelsOf(keyIds!) } : {};
            assertTop(topScores(q, k, { count, similarity, ...ids }), scores, count);
          }),
      ),
      { numRuns: 80, seed: 3 },
    );
  });

  it('goes through several tiles of keys and of queries', () => {
    scope(() => {
      const [rows, keys] = [70, 66_000];
      const [q, k] = [random(rows, 3), random(keys, 3)];
      const [values, places] = q.matmul(k.t()).topk(4, 1);
      const found = topScores(q, k, { count: 4, similarity: 'dot' });
      assertClose(found.scores, values, { atol: 1e-10, rtol: 0 });
      assert.deepEqual(numbers(found.indices), numbers(places));
      // Rows left out lie in both tiles.
      const limited = searchParts(q, [{ start: 0, embeddings: k }], 2, 'dot', { rows: places.narrow(1, 0, 2) });
      assert.deepEqual(numbers(limited.indices), numbers(places.narrow(1, 2, 2)));
    });
  });

  it('goes through parts, with and without further limits', () => {
    scope(() => {
      const [q, k] = [random(3, 4), random(10, 4)];
      const [labels, ids] = [labelsOf([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]), labelsOf([5, 6, 7, 5, 6, 7, 8, 8, 8, 8])];
      const parts = [
        [0, 4],
        [4, 1],
        [5, 5],
      ].map(([start, length]) => ({
        start: start!,
        embeddings: k.narrow(0, start!, length!),
        labels: labels.narrow(0, start!, length!),
        ids: ids.narrow(0, start!, length!),
      }));
      const scores = rowsOf(q).map((a) => rowsOf(k).map((b) => cosine(a, b)));
      const cases: [SearchLimits, (i: number, j: number) => boolean][] = [
        [{}, () => true],
        [{ ids: labelsOf([5, 6, 7]) }, (i, j) => numbers(ids)[j] !== 5 + i],
        [{ labels: labelsOf([0, 1, 2]) }, (i, j) => j % 3 !== i],
        [{ range: [-0.3, 0.4] }, (i, j) => scores[i]![j]! >= -0.3 && scores[i]![j]! <= 0.4],
        [
          { most: torch.tensor([0.1, 1, -0.2], { dtype: 'float64', device }) },
          (i, j) => scores[i]![j]! <= [0.1, 1, -0.2][i]!,
        ],
      ];
      for (const [limits, counts] of cases) {
        const expected = scores.map((row, i) => row.map((x, j) => (counts(i, j) ? x : -Infinity)));
        assertTop(searchParts(q, parts, 6, 'cosine', limits), expected, 6);
      }
      assertTop(searchParts(q, [], 2, 'cosine'), [[], [], []], 2);
    });
  });

  it('scores queries with keys of their own', () => {
    scope(() => {
      const [q, own] = [random(3, 4), random(3, 2, 4)];
      const keys = rowsOf(own.flatten(0, 1));
      for (const [similarity, measure] of Object.entries(measures)) {
        const expected = rowsOf(q).map((a, i) => [measure(a, keys[2 * i]!), measure(a, keys[2 * i + 1]!)]);
        const found = ownScores(q, own, similarity as Similarity);
        assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
      }
    });
  });

  it('computes half precision in float32, without gradients', () => {
    scope(() => {
      const [q, k] = [random(2, 4).to('bfloat16'), random(5, 4).to('bfloat16')];
      const expected = topScores(q.to('float32'), k.to('float32'), { count: 3 });
      const found = topScores(q.requiresGrad_(), k, { count: 3 });
      assert.equal(found.scores.dtype, 'float32');
      assert.equal(found.scores.requiresGrad, false);
      assert.deepEqual(numbers(found.indices), numbers(expected.indices));
    });
  });
});
