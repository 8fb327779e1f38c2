import assert from 'node:assert/strict';
import fc from 'fast-check';
import { contrast } from '../../../src/contrast';
import {
  batchHard,
  multiSimilarity,
  pairMasks,
  pairRows,
  pairsOf,
  pairWeights,
  tripletRows,
  tripletsOf,
  type PairIndices,
} from '../../../src/negatives/mining';
import { grad, scope, torch } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { assertRefuses, assertValue, cosine, rowsOf, sumExp } from '../../contrast/objectives/plain';
import { labelsOf, listed, rowsOfPairs, rowsOfTriplets, sorted } from './plain';

const pairList = fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 6 })), { maxLength: 12 });
const column = (rows: [number, number][], side: 0 | 1) =>
  rows.length === 0 ? labelsOf([0]).narrow(0, 0, 0) : labelsOf(rows.map((row) => row[side]));
const pairsFrom = (p: [number, number][], n: [number, number][]): PairIndices => ({
  anchors1: column(p, 0),
  positives: column(p, 1),
  anchors2: column(n, 0),
  negatives: column(n, 1),
});
const random = (rows: number, columns = 3) => torch.randn([rows, columns], { dtype: 'float64' }).to({ device });

describe('pairs and triplets', () => {
  it('joins pairs to triplets as a loop does', () => {
    fc.assert(
      fc.property(pairList, pairList, (p, n) =>
        scope(() => {
          const expected = p.flatMap(([a, x]) => n.filter(([b]) => b === a).map(([, y]) => [a, x, y]));
          assert.deepEqual(rowsOfTriplets(tripletsOf(pairsFrom(p, n))), expected);
        }),
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('takes triplets apart, once each if wanted', () => {
    scope(() => {
      const triplets = { anchors: labelsOf([1, 0, 1]), positives: labelsOf([2, 3, 2]), negatives: labelsOf([4, 5, 6]) };
      assert.deepEqual(listed(pairsOf(triplets)), [
        [1, 0, 1],
        [2, 3, 2],
        [1, 0, 1],
        [4, 5, 6],
      ]);
      assert.deepEqual(listed(pairsOf(triplets, { distinct: true })), [
        [0, 1],
        [3, 2],
        [0, 1, 1],
        [5, 4, 6],
      ]);
      assert.deepEqual(listed(tripletsOf(triplets)), listed(triplets));
      const none = pairsOf(pairsFrom([], []), { distinct: true });
      assert.deepEqual(listed(none), [[], [], [], []]);
    });
  });

  it('makes masks that have just the pairs', () => {
    fc.assert(
      fc.property(pairList, pairList, (p, n) =>
        scope(() => {
          const masks = pairMasks(pairsFrom(p, n), 5, 7);
          [p, n].forEach((pairs, side) => {
            const wanted = Array(35).fill(0) as number[];
            for (const [a, b] of pairs) wanted[a * 7 + b] = 1;
            assert.deepEqual(numbers(side === 0 ? masks.positives : masks.negatives), wanted);
          });
        }),
      ),
      { numRuns: 20, seed: 3 },
    );
  });

  it('counts rows as weights', () => {
    scope(() => {
      const triplets = { anchors: labelsOf([1, 0, 1]), positives: labelsOf([2, 3, 2]), negatives: labelsOf([4, 1, 4]) };
      assert.deepEqual(
        numbers(pairWeights(triplets, 6)),
        [1, 3, 2, 1, 2, 0].map((x) => Math.fround(x / 3)),
      );
      assert.deepEqual(numbers(pairWeights(triplets, 6, { of: 'anchors' })), [0.5, 1, 0, 0, 0, 0]);
      assert.deepEqual(numbers(pairWeights(triplets, 5, { of: 'positives' })), [0, 0, 1, 0.5, 0]);
      assert.deepEqual(numbers(pairWeights(triplets, 5, { of: 'negatives' })), [0, 0.5, 0, 0, 1]);
      assert.deepEqual(numbers(pairWeights(pairsFrom([[1, 1]], []), 3)), [0, 1, 0]);
      assert.deepEqual(numbers(pairWeights(pairsFrom([], []), 3)), [1, 1, 1]);
      assertRefuses(() => pairWeights(triplets, 4), /there are 4 rows, and row 4 was mined/);
    });
  });

  it('gives triplets to contrast, with gradients to the embeddings', () => {
    scope(() => {
      const x = random(6).requiresGrad_();
      const triplets = batchHard({ embeddings: x, labels: labelsOf([0, 0, 1, 1, 2, 2]) });
      const rows = rowsOf(x);
      const expected = rowsOfTriplets(triplets).map(([a, p, n]) => {
        const s = [p, n].map((other) => cosine(rows[a!]!, rows[other!]!) / 0.1);
        return Math.log(sumExp(s)) - s[0]!;
      });
      const loss = contrast({ ...tripletRows(x, triplets), temperature: 0.1 });
      assertValue(loss, expected.reduce((sum, l) => sum + l, 0) / expected.length);
      assert.ok(numbers(grad(loss, [x])[0]!).some((slope) => slope !== 0));
      const none = { anchors: labelsOf([0]).narrow(0, 0, 0), positives: labelsOf([]), negatives: labelsOf([]) };
      assertRefuses(() => tripletRows(x, none), /there are no triplets/);
    });
  });

  it('gives pairs to contrast: each positive with all negatives of its anchor', () => {
    scope(() => {
      const [x, reference] = [random(5).requiresGrad_(), random(7)];
      const pairs = pairsFrom(
        [
          [0, 1],
          [3, 2],
          [0, 4],
          [2, 2],
        ],
        [
          [3, 6],
          [0, 5],
          [3, 0],
          [4, 1],
        ],
      );
      const { anchors, positives, negatives } = pairRows(x, pairs, reference);
      const [a, r] = [rowsOf(x), rowsOf(reference)];
      assert.deepEqual(rowsOf(anchors), [a[0], a[3], a[0]]);
      assert.deepEqual(rowsOf(positives), [r[1], r[2], r[4]]);
      // The only negative of anchor 0 comes twice: anchor 3 has two.
      assert.deepEqual(rowsOf(negatives.flatten(0, 1)), [r[5], r[5], r[6], r[0], r[5], r[5]]);
      assert.ok(anchors.requiresGrad);
      assert.ok(contrast({ anchors, positives, negatives }).requiresGrad);
      assertRefuses(() => pairRows(x, pairsFrom([[0, 1]], [[1, 1]]), reference), /no anchor has a positive and/);
      assertRefuses(() => pairRows(x, pairsFrom([], [[1, 1]]), reference), /no anchor has a positive and/);
    });
  });

  it('keeps what a miner gave through both forms', () => {
    scope(() => {
      const pairs = multiSimilarity({ embeddings: random(9), labels: labelsOf([0, 1, 2, 0, 1, 2, 0, 1, 2]) });
      const [positives, negatives] = rowsOfPairs(pairs);
      const both = (rows: number[][], others: number[][]) => rows.filter(([a]) => others.some(([b]) => b === a));
      const again = pairsOf(tripletsOf(pairs), { distinct: true });
      assert.deepEqual(rowsOfPairs(again), [sorted(both(positives, negatives)), sorted(both(negatives, positives))]);
    });
  });
});
