import assert from 'node:assert/strict';
import { adoreLoss, adoreSearch, ExactIndex, STAR, starLoss } from '../../../src/negatives/mining';
import { Generator, grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { assertRefuses, assertValue, dot, mean, rowsOf, total } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 10 });
const random = (...shape: number[]): Tensor => torch.randn(shape, { dtype: 'float64', generator }).to({ device });
const softplus = (x: number): number => Math.log1p(Math.exp(x));
const table = (rows: number[][]): Tensor =>
  torch.tensor(
    rows.map((row) => row.map(BigInt)),
    { device },
  );
const indexOf = (documents: Tensor): ExactIndex => {
  const index = new ExactIndex({ similarity: 'dot' });
  index.build(documents);
  return index;
};
const ranked = (query: number[], documents: number[][]): number[] =>
  documents
    .map((document, id) => ({ id, score: dot(query, document) }))
    .sort((a, b) => b.score - a.score)
    .map(({ id }) => id);

describe('STAR', () => {
  it('keeps the hardest of each query, draws from them, and goes on from a state with the same draws', () => {
    scope(() => {
      const [documents, queries] = [random(20, 4), random(2, 4)];
      const star = new STAR({ queries: 3, depth: 5 });
      const rows = labelsOf([2, 0]);
      const d = rowsOf(documents);
      const order = rowsOf(queries).map((query) => ranked(query, d));
      const positives = labelsOf(order.map((ids) => ids[1]!));
      star.mine(indexOf(documents), rows, queries, positives);
      const expected = order.map((ids) => [ids[0]!, ...ids.slice(2, 6)]);
      rowsOf(star.sample(rows, 5)).forEach((ids, i) => {
        assert.deepEqual([...ids].sort(), [...expected[i]!].sort());
      });
      assert.deepEqual(integersOf(star.sample(labelsOf([1]))), [-1]);
      const again = new STAR({ queries: 3, depth: 5, seed: 4 });
      again.loadStateDict(star.stateDict());
      const many = labelsOf([2, 0, 2, 0, 0, 2]);
      assert.deepEqual(integersOf(again.sample(many, 2)), integersOf(star.sample(many, 2)));
      assertRefuses(() => {
        star.mine(indexOf(documents), labelsOf([0, 0]), queries, positives);
      }, /STAR: rows must be distinct/);
      assertRefuses(() => {
        star.loadStateDict(new STAR({ queries: 2, depth: 5 }).stateDict());
      }, /'hard\.ids' must be int64 \[3, 5\]/);
    });
  });

  it('has the loss of a loop over pairs', () => {
    scope(() => {
      for (const [count, others] of [
        [1, 0],
        [1, 2],
        [3, 0],
        [3, 4],
      ] as const) {
        const [queries, positives] = [random(count, 3), random(count, 3)];
        const negatives = others === 0 ? undefined : random(others, 3);
        const positiveIds = [10, 11, 12].slice(0, count);
        const negativeIds = [11, 20, 21, 12].slice(0, others);
        const relevant = [
          [10, 20],
          [11, -1],
          [12, 10],
        ].slice(0, count);
        const [q, p] = [rowsOf(queries), rowsOf(positives)];
        const documents = [...p, ...(negatives ? rowsOf(negatives) : [])];
        const ids = [...positiveIds, ...negativeIds];
        const loop = (counts: (i: number, j: number) => boolean): number => {
          const pairs = q.flatMap((query, i) =>
            documents.flatMap((document, j) =>
              j !== i && counts(i, j) ? [softplus(dot(query, document) - dot(query, p[i]!))] : [],
            ),
          );
          return pairs.length === 0 ? 0 : mean(pairs);
        };
        const options = { queries, positives, ...(negatives && { negatives }) };
        assertValue(
          starLoss(options),
          loop(() => true),
        );
        const withIds = {
          ...options,
          positiveIds: labelsOf(positiveIds),
          ...(negatives && { negativeIds: labelsOf(negativeIds) }),
          relevant: table(relevant),
        };
        assertValue(
          starLoss(withIds),
          loop((i, j) => !relevant[i]!.includes(ids[j]!)),
        );
        gradcheck(
          (a, b) => starLoss({ ...withIds, queries: a!, positives: b! }),
          [queries.clone().requiresGrad_(), positives.clone().requiresGrad_()],
        );
      }
      const x = random(2, 3);
      assertRefuses(() => starLoss({ queries: x, positives: random(3, 3) }), /starLoss: positives/);
      assertRefuses(() => starLoss({ queries: x, positives: x, relevant: table([[1], [2]]) }), /relevant needs/);
    });
  });
});

describe('ADORE', () => {
  it('ranks by the present queries, with the positives behind where none was found', () => {
    scope(() => {
      const [documents, queries] = [random(12, 4), random(3, 4)];
      const d = rowsOf(documents);
      const order = rowsOf(queries).map((query) => ranked(query, d));
      const positives = [
        [order[0]![2]!, order[0]![9]!],
        [order[1]![7]!, -1],
        [order[2]![0]!, -1],
      ];
      const { ids, relevant } = adoreSearch(indexOf(documents), queries, table(positives), 4);
      assert.deepEqual(rowsOf(ids), [
        [...order[0]!.slice(0, 4), -1, -1],
        [...order[1]!.slice(0, 4), ...positives[1]!],
        [...order[2]!.slice(0, 4), -1, -1],
      ]);
      assert.deepEqual(rowsOf(relevant), [
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0],
      ]);
      const one = labelsOf(positives.map((row) => row[0]!));
      assert.deepEqual(adoreSearch(indexOf(documents), queries, one, 4).ids.shape, [3, 5]);
      assertRefuses(() => adoreSearch(indexOf(documents), queries, one, 0), /depth/);
    });
  });

  it('has the loss of a loop over pairs, and raises the score of the positive', () => {
    scope(() => {
      const [queries, documents] = [random(3, 3), random(3, 5, 3)];
      const ids = [
        [4, 2, 7, -1, 5],
        [1, 2, 3, 4, -1],
        [-1, -1, 6, -1, -1],
      ];
      const isRelevant = [
        [0, 1, 0, 0, 1],
        [1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
      ];
      const relevant = torch.tensor(
        isRelevant.map((row) => row.map((x) => x === 1)),
        { device },
      );
      const ranking = { ids: table(ids), relevant };
      const q = rowsOf(queries);
      const d = rowsOf(documents.flatten(0, 1));
      const loop = (weight: (i: number, j: number) => number): number =>
        mean(
          q.map((query, n) => {
            const s = ids[n]!.map((_, c) => dot(query, d[5 * n + c]!));
            const pairs = s.flatMap((x, i) =>
              s.flatMap((y, j) =>
                isRelevant[n]![i] === 1 && isRelevant[n]![j] === 0 && ids[n]![j]! >= 0
                  ? [weight(i, j) * softplus(y - x)]
                  : [],
              ),
            );
            return pairs.length === 0 ? 0 : total(pairs) / pairs.length;
          }),
        );
      const reciprocal = (cut: number) => (i: number, j: number) =>
        Math.abs((i < cut ? 1 / (i + 1) : 0) - (j < cut ? 1 / (j + 1) : 0));
      assertValue(adoreLoss({ queries, documents, ranking }), loop(reciprocal(Infinity)));
      assertValue(adoreLoss({ queries, documents, ranking, cut: 2 }), loop(reciprocal(2)));
      assertValue(
        adoreLoss({ queries, documents, ranking, weighted: false }),
        loop(() => 1),
      );
      gradcheck((x) => adoreLoss({ queries: x!, documents, ranking }), [queries.clone().requiresGrad_()]);
      const learned = documents.clone().requiresGrad_();
      const slope = numbers(
        grad(adoreLoss({ queries, documents: learned, ranking }), [learned])[0]!
          .mul(queries.unsqueeze(1))
          .sum([2]),
      );
      // A step down the gradient moves positives towards the query and the others away; what is not there stays.
      ids.slice(0, 2).forEach((row, n) => {
        row.forEach((id, c) => {
          const along = -slope[5 * n + c]!;
          if (id < 0) assert.equal(Math.abs(along), 0);
          else assert.ok(isRelevant[n]![c] === 1 ? along > 0 : along < 0);
        });
      });
      assertRefuses(() => adoreLoss({ queries, documents: random(3, 4, 3), ranking }), /adoreLoss: documents/);
      assertRefuses(() => adoreLoss({ queries, documents, ranking, cut: 0 }), /adoreLoss: cut/);
    });
  });
});
