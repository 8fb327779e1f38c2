import assert from 'node:assert/strict';
import { ExactIndex, SimANS, type SimANSForm } from '../../../src/negatives/mining';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { device } from '../../support/device';
import { assertRefuses, dot, rowsOf } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 9 });
const random = (rows: number): Tensor => torch.randn([rows, 5], { dtype: 'float64', generator }).to({ device });
const forms: [SimANSForm, (away: number) => number][] = [
  [{ form: 'squared' }, (x) => -(x ** 2)],
  [{ form: 'squared', sharpness: 0.5, shift: -0.4 }, (x) => -0.5 * (x + 0.4) ** 2],
  [{ form: 'absolute' }, (x) => -3 * Math.abs(x)],
  [{ form: 'absolute', sharpness: 1.5 }, (x) => -1.5 * Math.abs(x)],
];
const indexOf = (documents: Tensor): ExactIndex => {
  const index = new ExactIndex({ similarity: 'dot' });
  index.build(documents);
  return index;
};

describe('SimANS', () => {
  it('weighs scores by how near they are to the positive one', () => {
    scope(() => {
      const scores = torch.tensor(
        [
          [2, 1.5, -Infinity],
          [0, -1, -3],
        ],
        { dtype: 'float64', device },
      );
      const own = torch.tensor([1.2, -2], { dtype: 'float64', device });
      for (const [weights, logarithm] of forms) {
        const expected = rowsOf(scores).map((row, i) =>
          row.map((score) => (score === -Infinity ? -Infinity : logarithm(score - [1.2, -2][i]!))),
        );
        const found = new SimANS({ weights }).logWeights(scores, own);
        assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-12, rtol: 0 });
      }
    });
  });

  it('draws in proportion to them, from the best documents that are no positives', () => {
    scope(() => {
      const [documents, query] = [random(15), random(1)];
      const index = indexOf(documents);
      const q = rowsOf(query)[0]!;
      const scores = rowsOf(documents).map((document) => dot(q, document));
      const positive = 6;
      const best = scores
        .map((score, id) => ({ id, score }))
        .filter(({ id }) => id !== positive)
        .sort((a, b) => b.score - a.score)
        .slice(0, 8);
      for (const [weights, logarithm] of forms) {
        const expected = best.map(({ score }) => Math.exp(logarithm(score - scores[positive]!)));
        const sum = expected.reduce((a, b) => a + b, 0);
        const miner = new SimANS({ weights, depth: 8 });
        const { ids } = miner.sample(index, {
          queries: query.expand([2000, 5]),
          positives: labelsOf(Array<number>(2000).fill(positive)),
          positiveEmbeddings: documents.narrow(0, positive, 1).expand([2000, 5]),
        });
        const drawn = integersOf(ids);
        best.forEach(({ id }, i) => {
          const share = drawn.filter((x) => x === id).length / 2000;
          assert.ok(Math.abs(share - expected[i]! / sum) < 0.04, `${id}: ${share}, not ${expected[i]! / sum}`);
        });
        assert.ok(drawn.every((id) => best.some((one) => one.id === id)));
      }
    });
  });

  it('takes known scores, draws without repetition, and goes on from a state with the same draws', () => {
    scope(() => {
      const index = indexOf(random(9));
      const input = {
        queries: random(4),
        positives: labelsOf([0, 1, 2, 3]),
        positiveScores: torch.zeros([4], { dtype: 'float64', device }),
      };
      const [first, second] = [new SimANS({ negatives: 10 }), new SimANS({ negatives: 10, seed: 3 })];
      rowsOf(first.sample(index, input).ids).forEach((row, q) => {
        assert.deepEqual(
          [...row].sort((a, b) => a - b),
          [-1, -1, ...[...Array(9).keys()].filter((id) => id !== q)],
        );
      });
      second.loadStateDict(first.stateDict());
      assert.deepEqual(integersOf(second.sample(index, input).ids), integersOf(first.sample(index, input).ids));
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const index = indexOf(random(9));
      const input = { queries: random(2), positives: labelsOf([0, 1]) };
      const miner = new SimANS();
      assertRefuses(() => miner.sample(index, input), /give positiveEmbeddings or positiveScores/);
      assertRefuses(() => miner.sample(index, { ...input, positiveScores: random(2) }), /positiveScores must be/);
      assertRefuses(
        () => miner.sample(index, { ...input, positiveEmbeddings: random(3) }),
        /positiveEmbeddings must be/,
      );
      assertRefuses(() => miner.sample(index, { ...input, positives: labelsOf([0]) }), /SimANS: positives/);
      assertRefuses(() => new SimANS({ weights: { form: 'cubic' as 'squared' } }), /weights\.form/);
      assertRefuses(() => new SimANS({ weights: { form: 'squared', sharpness: -1 } }), /weights\.sharpness/);
      assertRefuses(() => new SimANS({ weights: { form: 'squared', shift: NaN } }), /weights\.shift/);
      assertRefuses(() => new SimANS({ depth: 0 }), /depth/);
    });
  });
});
