import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TasBalancedSampler } from '../../../src/negatives/sampling/tas-balanced';
import { scope, torch } from '../../../src/torch';
import { device } from '../../support/device';
import { epochOf, givesTheSameOnEveryRank, keepsTheContract } from './contract';

// Query q has topic q mod 5 and q mod 4 + 1 pairs, but query 3 has none.
const size = 40;
const topics = Array.from({ length: size }, (_, query) => query % 5);
const queries = topics.flatMap((_, query) => (query === 3 ? [] : Array<number>((query % 4) + 1).fill(query)));
const margins = queries.map((query, pair) => Math.sin(pair * 7 + query));
const options = { size, pairs: { queries, margins }, topics, clusters: 5, batchSize: 6 };

describe('TasBalancedSampler', () => {
  keepsTheContract((shared) => new TasBalancedSampler({ ...options, ...shared }), { remainder: 'drop' });

  it('draws batches from as few topics as told, each query once, each with one of its pairs', () => {
    for (const clustersPerBatch of [1, 2, 3]) {
      const sampler = new TasBalancedSampler({ ...options, clustersPerBatch, batches: 20 });
      for (const { indices, pairs } of sampler.batches(0)) {
        assert.equal(new Set(indices).size, 6);
        assert.equal(new Set(Array.from(indices, (query) => topics[query])).size, clustersPerBatch);
        pairs.forEach((pair, row) => assert.equal(queries[pair], indices[row]));
        assert.ok(!indices.includes(3));
      }
    }
  });

  it('goes on to further topics when those are too small', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 39 }), fc.integer({ min: 1, max: 5 }), fc.nat(), (batchSize, few, seed) => {
        const clustersPerBatch = Math.min(few, batchSize);
        const sampler = new TasBalancedSampler({ ...options, batchSize, clustersPerBatch, batches: 3, seed });
        for (const batch of epochOf(sampler, 0)) {
          assert.equal(batch.length, batchSize);
          assert.equal(new Set(batch).size, batchSize);
        }
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it('draws ranges of the margin evenly, or pairs', () => {
    // One query: 20 pairs of a margin near 0, one at 0.5, one at 1.
    const own = [...Array.from({ length: 20 }, (_, pair) => pair * 1e-3), 0.5, 1];
    const share = (balance: 'bins' | 'random') => {
      const pairs = { queries: own.map(() => 0), margins: own };
      const sampler = new TasBalancedSampler({
        size: 1,
        pairs,
        topics: [0],
        clusters: 1,
        batchSize: 1,
        batches: 3000,
        balance,
      });
      const drawn = [...sampler.batches(0)].map((batch) => batch.pairs[0]!);
      return [drawn.filter((pair) => pair < 20).length, drawn.filter((pair) => pair === 20).length].map(
        (n) => n / 3000,
      );
    };
    const [low, middle] = share('bins');
    assert.ok(Math.abs(low! - 1 / 3) < 0.03 && Math.abs(middle! - 1 / 3) < 0.03);
    const [most, few] = share('random');
    assert.ok(Math.abs(most! - 20 / 22) < 0.03 && Math.abs(few! - 1 / 22) < 0.02);
  });

  it('splits margins into ranges of equal width, the largest in the last', () => {
    const own = [0, 0.99, 1, 1.5, 2, 4];
    const pairs = { queries: own.map(() => 0), margins: own };
    const sampler = new TasBalancedSampler({
      size: 1,
      pairs,
      topics: [0],
      clusters: 1,
      batchSize: 1,
      bins: 4,
      batches: 6000,
    });
    const counts = own.map(() => 0);
    for (const batch of sampler.batches(0)) counts[batch.pairs[0]!]!++;
    // Ranges {0, 0.99}, {1, 1.5}, {2}, {4}: one quarter each.
    [1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 4, 1 / 4].forEach((expected, pair) => {
      assert.ok(Math.abs(counts[pair]! / 6000 - expected) < 0.02, String(counts));
    });
  });

  it('draws the same pairs on any number of processes', () => {
    givesTheSameOnEveryRank(
      (shared) => new TasBalancedSampler({ ...options, ...shared }),
      (sampler) => Array.from(sampler.next().pairs),
    );
  });

  it('clusters queries by k-means', () => {
    scope(() => {
      const sampler = new TasBalancedSampler({ ...options, topics: undefined });
      assert.throws(() => sampler.next(), /give topics, or call refresh/);
      const far = torch.arange(size, { dtype: 'float64', device }).remainder(5).mul(100).unsqueeze(1);
      sampler.refresh(far);
      for (const batch of epochOf(sampler, 0)) assert.equal(new Set(batch.map((query) => topics[query])).size, 1);
    });
  });

  it('refuses what does not fit', () => {
    const make = (change: object) => () => new TasBalancedSampler({ ...options, ...change });
    assert.throws(make({ batchSize: 40 }), /39 queries have pairs, fewer than a batch of 40/);
    assert.throws(make({ pairs: { queries: [40], margins: [1] } }), /queries must run from 0 to 39/);
    assert.throws(make({ pairs: { queries, margins: [1] } }), /finite numbers/);
    assert.throws(make({ pairs: { queries, margins: margins.map(() => NaN) } }), /finite numbers/);
    assert.throws(make({ clustersPerBatch: 7 }), /at most the batch of 6, found 7/);
    assert.throws(make({ balance: 'x' }), /balance must be/);
    assert.throws(make({ topics: topics.map((topic) => topic - 1) }), /topics must run from 0 to 4/);
  });
});
