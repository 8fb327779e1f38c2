import assert from 'node:assert/strict';
import { ExactIndex } from '../../../src/negatives/mining';
import { Generator, memory, scope, torch, type Tensor } from '../../../src/torch';
import { device } from '../../support/device';
import { assertRefuses, rowsOf, squared } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 15 });
const random = (rows: number, columns = 3): Tensor =>
  torch.randn([rows, columns], { dtype: 'float64', generator }).to({ device });

describe('ExactIndex', () => {
  it('finds documents by their ids, as a loop does', () => {
    scope(() => {
      const [documents, queries] = [random(6), random(4)];
      const ids = [40, 7, 2 ** 40, 0, 9, 1];
      const index = new ExactIndex({ similarity: 'euclidean' });
      index.build(documents, { ids: labelsOf(ids) });
      const { ids: found, scores } = index.search(queries, 8);
      rowsOf(queries).forEach((query, q) => {
        const expected = rowsOf(documents)
          .map((document, i) => ({ id: ids[i]!, score: -squared(query, document) }))
          .sort((a, b) => b.score - a.score);
        assert.deepEqual(rowsOf(found)[q], [...expected.map(({ id }) => id), -1, -1]);
        const row = rowsOf(scores)[q]!;
        expected.forEach(({ score }, i) => {
          assert.ok(Math.abs(score - row[i]!) < 1e-10);
        });
        assert.equal(row[7], -Infinity);
      });
    });
  });

  it('is searched while a new one waits, and swaps it in', async () => {
    const [old, next] = scope(() => [random(4), random(9)] as const);
    const index = new ExactIndex();
    const nearest = (x: Tensor) => scope(() => integersOf(index.search(x, 1).ids));
    index.build(old);
    index.prepare(next);
    assert.ok(index.isPreparing);
    assert.equal(index.size, 4);
    assert.deepEqual(nearest(old), [0, 1, 2, 3]);
    const saved = index.stateDict();
    const again = new ExactIndex();
    again.loadStateDict(saved);
    for (const one of [index, again]) {
      assert.equal(one.size, 4);
      await one.swap();
      assert.equal(one.size, 9);
      assert.ok(!one.isPreparing);
      await one.swap();
      assert.equal(one.size, 9);
    }
    assert.deepEqual(nearest(next), [...Array(9).keys()]);
  });

  it('holds a copy, and frees what it held before', () => {
    const index = new ExactIndex();
    const documents = scope(() => random(3));
    index.build(documents);
    documents.fill_(0);
    scope(() => {
      assert.ok(index.search(random(1), 1).scores.itemSync() !== 0);
    });
    const before = memory().liveTensors;
    scope(() => {
      for (let time = 0; time < 5; time++) index.build(random(3));
    });
    assert.equal(memory().liveTensors, before);
  });

  it('refuses what does not fit, before anything changes', () => {
    scope(() => {
      const index = new ExactIndex();
      assertRefuses(() => index.search(random(1), 1), /it is empty/);
      index.build(random(2));
      assertRefuses(() => index.search(random(1, 4), 1), /queries must have 3 columns, found 4/);
      assertRefuses(() => index.search(random(1), 0), /count/);
      for (const [embeddings, ids, message] of [
        [random(2).mul(Infinity), undefined, /must be finite/],
        [random(2), labelsOf([1, 1]), /ids must be distinct/],
        [random(2), labelsOf([-1, 1]), /ids must be at least 0/],
        [random(2), labelsOf([1]), /ids must be int64 \[2\]/],
        [random(2).to('int64'), undefined, /embeddings must be floating-point/],
      ] as const) {
        for (const name of ['build', 'prepare'] as const) {
          assertRefuses(() => {
            index[name](embeddings, ids && { ids });
          }, message);
        }
      }
      assert.equal(index.size, 2);
      assert.ok(!index.isPreparing);
      const state = index.stateDict();
      assertRefuses(() => {
        index.loadStateDict({ ...state, tensors: new Map([['active.ids', labelsOf([1])]]) });
      }, /both or none of 'active\.embeddings'/);
      assertRefuses(() => {
        new ExactIndex({ similarity: 'dot' }).loadStateDict(state);
      }, /has similarity "cosine", this index 'dot'/);
      assertRefuses(() => new ExactIndex({ similarity: 'l1' as 'dot' }), /similarity/);
    });
  });
});
