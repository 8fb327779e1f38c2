import assert from 'node:assert/strict';
import {
  angular,
  batchEasyHard,
  batchHard,
  multiSimilarity,
  pairMargin,
  pairWeights,
  tripletMargin,
  tripletsOf,
  type BatchStrategy,
  type MinedIndices,
  type MinerBatch,
} from '../../../src/negatives/mining';
import { scope } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { golden } from '../../support/golden';
import { integersOf, listed, rowsOfPairs, sorted } from './plain';

const strategies = (positive: BatchStrategy, negative: BatchStrategy) => (batch: MinerBatch) =>
  batchEasyHard(batch, { positive, negative });

const cases: Record<string, (batch: MinerBatch) => MinedIndices> = {
  batch_hard: (batch) => batchHard(batch),
  batch_hard_squared: (batch) => batchHard(batch, { distance: 'squaredEuclidean', normalize: false }),
  easy_easy: strategies('easy', 'easy'),
  easy_hard: strategies('easy', 'hard'),
  easy_semihard: strategies('easy', 'semihard'),
  semihard_hard: strategies('semihard', 'hard'),
  hard_all: strategies('hard', 'all'),
  all_easy: strategies('all', 'easy'),
  ranges: (batch) =>
    batchEasyHard(batch, { positive: 'hard', negative: 'hard', positiveRange: [0.4, 1.5], negativeRange: [0.6, 1.6] }),
  angular: (batch) => angular(batch, { angle: 30, normalize: false }),
  multi_similarity: (batch) => multiSimilarity(batch),
  multi_similarity_euclidean: (batch) => multiSimilarity(batch, { epsilon: -0.05, distance: 'euclidean' }),
  pair_margin: (batch) => pairMargin(batch, { positiveMargin: 0.9, negativeMargin: 1.2 }),
  pair_margin_cosine: (batch) => pairMargin(batch, { positiveMargin: 0.5, negativeMargin: 0.9, distance: 'cosine' }),
  triplet_all: (batch) => tripletMargin(batch, { margin: 0.3 }),
  triplet_hard: (batch) => tripletMargin(batch, { margin: 0.3, type: 'hard' }),
  triplet_semihard: (batch) => tripletMargin(batch, { margin: 0.3, type: 'semihard' }),
  triplet_easy: (batch) => tripletMargin(batch, { margin: 0.3, type: 'easy' }),
};

describe('miners beside PyTorch Metric Learning', () => {
  const { tensors, values } = golden<{ cases: string[] }>('miners');
  const own: MinerBatch = { embeddings: tensors.embeddings!, labels: tensors.labels! };
  const withReference: MinerBatch = {
    ...own,
    reference: { embeddings: tensors.reference!, labels: tensors.reference_labels! },
  };

  it('covers all that was written', () => {
    assert.deepEqual(Object.keys(cases), values.cases);
  });

  for (const [name, mine] of Object.entries(cases)) {
    it(`gives the same as ${name}`, () => {
      scope(() => {
        for (const [kind, batch] of Object.entries({ own, reference: withReference })) {
          const mined = mine(batch);
          const expected = listed(mined).map((_, place) => integersOf(tensors[`${name}.${kind}.${place}`]!));
          if ('anchors' in mined) assert.deepEqual(listed(mined), expected, kind);
          else {
            // The library lists some of these by distance.
            const [a1, p, a2, n] = expected as [number[], number[], number[], number[]];
            const pairs = [sorted(a1.map((a, i) => [a, p[i]!])), sorted(a2.map((a, i) => [a, n[i]!]))];
            assert.deepEqual(rowsOfPairs(mined), pairs, kind);
            assert.ok(pairs.flat().length > 0);
          }
        }
      });
    });
  }

  it('makes the same triplets of pairs, and the same weights', () => {
    scope(() => {
      const pairs = multiSimilarity(own);
      const place = (i: number) => integersOf(tensors[`pairs_to_triplets.${i}`]!);
      const expected = place(0).map((a, i) => [a, place(1)[i]!, place(2)[i]!]);
      const triplets = tripletsOf(pairs);
      const found = listed(triplets);
      assert.deepEqual(sorted(found[0]!.map((a, i) => [a, found[1]![i]!, found[2]![i]!])), sorted(expected));
      const weights = pairWeights(tripletMargin(own, { margin: 0.3, type: 'semihard' }), 13, { dtype: 'float64' });
      assertClose(weights, tensors.weights!, { atol: 1e-12, rtol: 0 });
      const ofAnchors = pairWeights(pairs, 13, { of: 'anchors', dtype: 'float64' });
      assertClose(ofAnchors, tensors.weights_reference!, { atol: 1e-12, rtol: 0 });
    });
  });
});
