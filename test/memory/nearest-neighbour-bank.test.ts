import assert from 'node:assert/strict';
import { nnclr } from '../../src/contrast';
import { NearestNeighbourBank } from '../../src/memory';
import { nearestRows } from '../../src/memory/nearest';
import { grad, memory, scope, torch } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, cosine, everything, ints, random, rowsOf } from './plain';

/** Rows by falling cosine, without those of the query's id. */
function byLoop(query: number[], rows: number[][], k: number, isOut: (row: number) => boolean): [number, number][] {
  return rows
    .map((row, i): [number, number] => [cosine(query, row), i])
    .filter(([, i]) => !isOut(i))
    .sort(([a], [b]) => b - a)
    .slice(0, k);
}

describe('NearestNeighbourBank', () => {
  it('finds the k nearest of a loop, without those of an id', () => {
    scope(() => {
      for (const [size, queries, k] of [
        [1, 1, 1],
        [2, 3, 2],
        [7, 2, 3],
        [33, 5, 7],
      ] as const) {
        const bank = new NearestNeighbourBank({ size, dimension: 3, ids: true, dtype: 'float64', device });
        const rows = random([size + 2, 3]);
        bank.enqueue(rows, { ids: ints(Array.from({ length: size + 2 }, (_, i) => i % 4)) });
        const x = random([queries, 3]);
        for (const ids of [undefined, ints(Array.from({ length: queries }, (_, i) => i % 4))]) {
          const found = bank.nearest(x, { k, ids });
          const entries = rowsOf(bank.buffer.entries());
          const entryIds = numbers(bank.buffer.ids());
          rowsOf(x).forEach((query, i) => {
            const expected = byLoop(query, entries, k, (row) => ids !== undefined && entryIds[row] === i % 4);
            const missing = Array<number>(k - expected.length).fill(-Infinity);
            const scores = rowsOf(found.similarities)[i]!;
            assert.deepEqual(scores.slice(expected.length), missing);
            assertNear(
              scores.slice(0, expected.length),
              expected.map(([score]) => score),
            );
            assert.deepEqual(
              rowsOf(found.rows)[i]!.slice(0, expected.length),
              expected.map(([, row]) => row),
            );
          });
          assertClose(found.embeddings, bank.buffer.rows(found.rows.flatten()).view([queries, k, 3]), {
            atol: 0,
            rtol: 0,
          });
        }
      }
    });
  });

  it('gives the same from parts as from the whole', () => {
    scope(() => {
      const [rows, x] = [random([23, 3]), random([6, 3])];
      const whole = nearestRows(x, [{ start: 0, embeddings: rows.clone() }], 5);
      const parts = [0, 8, 16].map((start) => ({ start, embeddings: rows.narrow(0, start, Math.min(8, 23 - start)) }));
      const inParts = nearestRows(x, parts, 5);
      assertClose(inParts.similarities, whole.similarities, { atol: 1e-14 });
      assert.deepEqual(numbers(inParts.rows), numbers(whole.rows));
    });
  });

  it('is a support of NNCLR', () => {
    scope(() => {
      const bank = new NearestNeighbourBank({ size: 9, dimension: 3, dtype: 'float64', device });
      bank.warmStart(random([9, 3]));
      const [a, b] = [random([4, 3]).requiresGrad_(), random([4, 3]).requiresGrad_()];
      const loss = nnclr(a, b, bank.lookup);
      assertClose(loss, nnclr(a, b, bank.buffer.entries()), { atol: 1e-12 });
      assert.equal(bank.lookup(a).requiresGrad, false);
      assert.equal(grad(loss, [b])[0]!.isfinite().all().itemSync(), 1);
    });
  });

  it('searches int8 without widening the state, and does not leak', () => {
    const bank = new NearestNeighbourBank({ size: 40, dimension: 8, dtype: 'int8', device });
    const rows = random([40, 8]);
    bank.enqueue(rows);
    assert.deepEqual(
      numbers(bank.nearest(rows).rows),
      Array.from({ length: 40 }, (_, i) => i),
    );
    const before = memory().liveTensors;
    scope(() => void bank.nearest(rows, { k: 3 }));
    assert.equal(memory().liveTensors, before);
  });

  it('goes on exactly from its state', () => {
    const made = () => new NearestNeighbourBank({ size: 3, dimension: 2, device });
    const [first, second] = [made(), made()];
    first.enqueue(random([2, 2]));
    second.loadStateDict(copied(first.stateDict()));
    const batch = random([2, 2]);
    for (const bank of [first, second]) bank.enqueue(batch);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
  });

  it('refuses what does not fit', () => {
    const bank = new NearestNeighbourBank({ size: 4, dimension: 2, device });
    assertRefuses(() => bank.lookup(random([2, 2])), /1 neighbours were asked for, and it holds 0; fill it first/);
    bank.enqueue(torch.ones([2, 2], { device }));
    assertRefuses(() => bank.nearest(random([2, 2]), { k: 3 }), /3 neighbours were asked for, and it holds 2/);
    assertRefuses(() => bank.nearest(random([2, 2]), { ids: ints([0, 1]) }), /made without ids/);
    assertRefuses(() => bank.nearest(random([2, 3])), /queries of shape \[N, 2\]/);
    assertRefuses(() => bank.nearest(random([0, 2])), /there are no queries/);
    assertRefuses(() => bank.nearest(random([2, 2]), { k: 0 }), /k must be an integer of at least 1/);
  });
});
