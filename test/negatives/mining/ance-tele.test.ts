import assert from 'node:assert/strict';
import { ANCETele, ExactIndex } from '../../../src/negatives/mining';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { device } from '../../support/device';
import { assertRefuses, cosine, rowsOf } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 6 });
const random = (rows: number): Tensor => torch.randn([rows, 5], { generator }).to({ device });

const best = (query: number[], documents: number[][], depth: number, positive: number): number[] =>
  documents
    .map((document, id) => ({ id, score: cosine(query, document) }))
    .filter(({ id }) => id !== positive)
    .sort((a, b) => b.score - a.score)
    .slice(0, depth)
    .map(({ id }) => id);

describe('ANCETele', () => {
  const make = (documents: Tensor): ExactIndex => {
    const index = new ExactIndex();
    index.build(documents);
    return index;
  };

  it('pools what is near a query, what is near its positive, and the pool before', () => {
    scope(() => {
      const [documents, queries] = [random(30), random(3)];
      const index = make(documents);
      const tele = new ANCETele({ queries: 4, depth: 8, perSource: 5, episodes: 2 });
      const rows = labelsOf([3, 0, 2]);
      const positives = labelsOf([7, 8, 9]);
      const positiveEmbeddings = documents.indexSelect(0, positives);
      const input = { rows, queries, positives, positiveEmbeddings };
      const d = rowsOf(documents);
      const pools: number[][][] = [];
      for (let episode = 1; episode <= 3; episode++) {
        tele.startEpisode();
        assert.equal(tele.episode, episode);
        tele.mine(index, input);
        const pool = rowsOf(tele.pool(rows));
        pool.forEach((ids, i) => {
          const [now, ahead] = [ids.slice(0, 5), ids.slice(5, 10)];
          assert.equal(new Set(now).size, 5);
          assert.equal(new Set(ahead).size, 5);
          const near = best(rowsOf(queries)[i]!, d, 8, 7 + i);
          const nearPositive = best(d[7 + i]!, d, 8, 7 + i);
          assert.ok(now.every((id) => near.includes(id)));
          assert.ok(ahead.every((id) => nearPositive.includes(id)));
          // Momentum: what the pool began with before; older episodes have left.
          assert.deepEqual(ids.slice(10), pools.at(-1)?.[i]!.slice(0, 10) ?? (Array(10).fill(-1) as number[]));
        });
        pools.push(pool);
        assert.deepEqual(integersOf(tele.pool(labelsOf([1]))), Array(20).fill(-1));
      }
      // Mined again in an episode: in place of what was mined before.
      tele.mine(index, input);
      rowsOf(tele.pool(rows)).forEach((ids, i) => {
        assert.deepEqual(ids.slice(10), pools[2]![i]!.slice(10));
      });
    });
  });

  it('draws from the pool without repetition of a place, and goes on from a state with the same draws', () => {
    scope(() => {
      const documents = random(20);
      const tele = new ANCETele({ queries: 2, depth: 6, perSource: 2, episodes: 1 });
      tele.startEpisode();
      const rows = labelsOf([0]);
      const positives = labelsOf([4]);
      const positiveEmbeddings = documents.narrow(0, 4, 1);
      tele.mine(make(documents), { rows, queries: random(1), positives, positiveEmbeddings });
      const pool = integersOf(tele.pool(rows));
      assert.deepEqual(integersOf(tele.sample(rows, 4)).sort(), [...pool].sort());
      assert.deepEqual(integersOf(tele.sample(labelsOf([1]), 3)), [-1, -1, -1]);
      assert.deepEqual(integersOf(tele.sample(rows, 6)).slice(4), [-1, -1]);
      const again = new ANCETele({ queries: 2, depth: 6, perSource: 2, episodes: 1, seed: 5 });
      again.loadStateDict(tele.stateDict());
      assert.equal(again.episode, 1);
      assert.deepEqual(integersOf(again.pool(rows)), pool);
      const several = labelsOf([0, 0, 0, 0]);
      assert.deepEqual(integersOf(again.sample(several, 2)), integersOf(tele.sample(several, 2)));
    });
  });

  it('refuses what does not fit, before anything changes', () => {
    scope(() => {
      const documents = random(9);
      const index = make(documents);
      const tele = new ANCETele({ queries: 3, perSource: 2 });
      const input = {
        rows: labelsOf([0, 1]),
        queries: random(2),
        positives: labelsOf([0, 1]),
        positiveEmbeddings: documents.narrow(0, 0, 2),
      };
      const refuses = (more: object, message: RegExp) => {
        const before = tele.stateDict().tensors.get('draws.generator')!;
        assertRefuses(() => {
          tele.mine(index, { ...input, ...more });
        }, message);
        assert.ok(before.equal(tele.stateDict().tensors.get('draws.generator')!));
        assert.ok(integersOf(tele.pool(labelsOf([0, 1, 2]))).every((id) => id === -1));
      };
      refuses({}, /call startEpisode\(\) first/);
      tele.startEpisode();
      refuses({ rows: labelsOf([0, 3]) }, /rows must be from 0 to 2, found 3/);
      refuses({ rows: labelsOf([1, 1]) }, /rows must be distinct/);
      refuses({ rows: labelsOf([1]) }, /rows must be int64 \[2\]/);
      refuses({ positives: labelsOf([1]) }, /positives must be int64 \[2\]/);
      refuses({ positiveEmbeddings: documents }, /positiveEmbeddings must be/);
      assertRefuses(() => tele.sample(labelsOf([0]), 0), /count/);
      assertRefuses(() => tele.sample(labelsOf([-1]), 1), /rows must be from 0 to 2, found -1/);
      assertRefuses(() => {
        tele.loadStateDict(new ANCETele({ queries: 4 }).stateDict());
      }, /'pool\.ids' must be int64 \[3, 12\]/);
    });
  });
});
