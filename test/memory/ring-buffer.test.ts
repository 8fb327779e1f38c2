import assert from 'node:assert/strict';
import fc from 'fast-check';
import { RingBuffer, type GatherRows, type StoredDType } from '../../src/memory';
import { keep, memory, scope, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { assertRefuses, bools, copied, everything, ints, random, rowsOf } from './plain';

/** What lies in a slot of the model: its number ever, its id, and the enqueue that brought it. */
interface Slot {
  entry: number;
  enqueue: number;
}

const batchOf = (from: number, count: number) =>
  torch.arange(from * 2, (from + count) * 2, { dtype: 'float32', device }).view([count, 2]);

describe('RingBuffer', () => {
  it('agrees with a plain array for any sequence of batches and masks', () => {
    const batches = fc.array(fc.array(fc.boolean(), { maxLength: 11 }), { maxLength: 8 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), batches, (size, masks) =>
        scope(() => {
          const buffer = new RingBuffer({
            size,
            dimension: 2,
            labels: true,
            ids: true,
            device,
            columns: { at: { dtype: 'float64', shape: [1, 2] } },
          });
          const slots: Slot[] = [];
          let [offered, total] = [0, 0];
          masks.forEach((mask, enqueue) => {
            const ids = mask.map((_, i) => offered + i);
            const entered = buffer.enqueue(batchOf(offered, mask.length), {
              labels: ints(ids.map((id) => id % 3)),
              ids: ints(ids),
              columns: {
                at: torch
                  .tensor(
                    ids.map((id) => [[id, -id]]),
                    { dtype: 'float64', device },
                  )
                  .view([ids.length, 1, 2]),
              },
              ...(mask.includes(false) && { mask: bools(mask) }),
            });
            const entries = ids.filter((_, i) => mask[i]);
            assert.equal(entered, entries.length);
            for (const entry of entries) slots[total++ % size] = { entry, enqueue };
            offered += mask.length;
          });
          const byAge = [...slots].sort((a, b) => a.entry - b.entry);
          assert.deepEqual(
            [buffer.filled, buffer.pointer, buffer.total, buffer.enqueues],
            [Math.min(total, size), total % size, total, masks.length],
          );
          for (const [order, expected] of [
            ['buffer', slots],
            ['age', byAge],
          ] as const) {
            const ids = expected.map(({ entry }) => entry);
            assert.deepEqual(numbers(buffer.ids(order)), ids);
            assert.deepEqual(
              numbers(buffer.labels(order)),
              ids.map((id) => id % 3),
            );
            assert.deepEqual(
              numbers(buffer.column('at', order)),
              ids.flatMap((id) => [id, -id]),
            );
            assert.deepEqual(
              numbers(buffer.entries(order)),
              ids.flatMap((id) => [2 * id, 2 * id + 1]),
            );
            assert.deepEqual(
              numbers(buffer.ages('enqueues', order)),
              expected.map(({ enqueue }) => masks.length - 1 - enqueue),
            );
            const ages = expected.map(
              ({ entry }) => byAge.length - 1 - byAge.findIndex((slot) => slot.entry === entry),
            );
            assert.deepEqual(numbers(buffer.ages('entries', order)), ages);
          }
          buffer.dispose();
        }),
      ),
      { numRuns: 60, seed: 2 },
    );
  });

  it('makes the buffers of 1, 2 and 4 ranks the same', () => {
    for (const world of [2, 4]) {
      const made = () => ({ size: 7, dimension: 2, ids: true, device, dtype: 'int8' as StoredDType });
      // Every rank hands over what it has, then each gets all: as a collective would, in one process.
      const ranks: RingBuffer[] = [];
      let sent: (readonly Tensor[])[] = [];
      const collecting: GatherRows = (tensors) => (sent.push(tensors.map((x) => keep(x.clone()))), tensors);
      const gather: GatherRows = (tensors) => tensors.map((_, i) => torch.cat(sent.map((rank) => rank[i]!)));
      for (let rank = 0; rank < world; rank++) ranks.push(new RingBuffer({ ...made(), gather }));
      const alone = new RingBuffer(made());
      for (let step = 0; step < 4; step++) {
        const own = ranks.map((_, rank) => ({
          rows: random([2, 2]),
          ids: ints([100 * step + 2 * rank, 100 * step + 2 * rank + 1]),
          // Only one rank leaves something out.
          mask: rank === 1 ? bools([step % 2 === 0, true]) : undefined,
        }));
        sent = [];
        own.forEach(({ rows, ids, mask }) =>
          new RingBuffer({ ...made(), gather: collecting }).enqueue(rows, { ids, mask }),
        );
        ranks.forEach((buffer, rank) =>
          buffer.enqueue(own[rank]!.rows, { ids: own[rank]!.ids, mask: own[rank]!.mask }),
        );
        const masks = own.flatMap(({ mask }) => (mask === undefined ? [true, true] : numbers(mask).map(Boolean)));
        alone.enqueue(torch.cat(own.map(({ rows }) => rows)), {
          ids: torch.cat(own.map(({ ids }) => ids)),
          mask: bools(masks),
        });
        for (const buffer of ranks) assert.deepEqual(everything(buffer.stateDict()), everything(alone.stateDict()));
      }
    }
  });

  it('refuses what a gather function must not return', () => {
    const wrong: GatherRows[] = [
      (tensors) => tensors.slice(1),
      (tensors) => tensors.map((x) => x.to({ dtype: 'float64' })),
      ([first, ...rest]) => [torch.cat([first!, first!]), ...rest],
    ];
    for (const gather of wrong) {
      const buffer = new RingBuffer({ size: 4, dimension: 2, device, gather });
      assertRefuses(() => buffer.enqueue(random([2, 2])), /gather must return each tensor/);
      assert.deepEqual([buffer.total, buffer.enqueues], [0, 0]);
    }
  });

  it('holds embeddings in every stored type, and converts them', () => {
    const x = random([5, 6]).mul(3);
    x.select(0, 2).zero_();
    const inside = (buffer: RingBuffer) => buffer.entries().to({ dtype: 'float64' });
    for (const [dtype, relative] of [
      ['float64', 0],
      ['float32', 2 ** -24],
      ['bfloat16', 2 ** -8],
      ['float16', 2 ** -10],
    ] as const) {
      const buffer = new RingBuffer({ size: 8, dimension: 6, dtype, device });
      buffer.enqueue(x);
      assert.equal(buffer.entries().dtype, dtype);
      assertClose(inside(buffer), x, { rtol: relative, atol: 1e-7 });
    }
    const buffer = new RingBuffer({ size: 8, dimension: 6, dtype: 'int8', device });
    buffer.enqueue(x);
    assert.equal(buffer.entries().dtype, 'float32');
    assert.equal(buffer.stateDict().tensors.get('embeddings')!.dtype, 'int8');
    rowsOf(inside(buffer)).forEach((row, i) => {
      const expected = rowsOf(x)[i]!;
      const scale = Math.max(...expected.map(Math.abs)) / 127;
      row.forEach((y, j) => assert.ok(Math.abs(y - expected[j]!) <= scale / 2 + 1e-6));
    });
    assert.deepEqual(rowsOf(inside(buffer))[2], [0, 0, 0, 0, 0, 0]);
    const largest = buffer.stateDict().tensors.get('embeddings')!.to('float32').abs().amax([1]);
    assert.deepEqual(numbers(largest), [127, 127, 0, 127, 127, 0, 0, 0]);
    assertClose(buffer.rows(ints([4, 0])), buffer.entries().indexSelect(0, ints([4, 0])), { atol: 0, rtol: 0 });
    const wide = numbers(buffer.entries());
    assert.deepEqual(numbers(buffer.to({ dtype: 'float32' }).entries()), wide);
    assert.deepEqual([buffer.dtype, buffer.stateDict().tensors.has('scales')], ['float32', false]);
    assertClose(buffer.to({ dtype: 'int8' }).entries(), torch.tensor(wide, { device }).view([5, 6]), { atol: 1e-6 });
  });

  it('keeps infinities and NaN visible in int8', () => {
    const buffer = new RingBuffer({ size: 2, dimension: 2, dtype: 'int8', device });
    buffer.enqueue(
      torch.tensor(
        [
          [NaN, 1],
          [Infinity, 1],
        ],
        { device },
      ),
    );
    assert.ok(rowsOf(buffer.entries()).every((row) => row.some((x) => !Number.isFinite(x))));
  });

  it('starts warm from tensors, without gathering', () => {
    const buffer = new RingBuffer({ size: 3, dimension: 2, ids: true, device, gather: () => assert.fail() });
    buffer.warmStart(batchOf(0, 2), { ids: ints([0, 1]) });
    buffer.warmStart(batchOf(0, 5), { ids: ints([0, 1, 2, 3, 4]) });
    assert.deepEqual(numbers(buffer.ids('age')), [2, 3, 4]);
    assert.deepEqual([buffer.total, buffer.enqueues, buffer.filled], [5, 1, 3]);
    assertRefuses(() => buffer.warmStart(batchOf(0, 1)), /every entry needs ids/);
    assert.equal(buffer.filled, 3);
  });

  it('goes on exactly from its state, in the middle of a wrap-around', () => {
    const made = () =>
      new RingBuffer({
        size: 5,
        dimension: 2,
        ids: true,
        dtype: 'int8',
        device,
        columns: { domain: { dtype: 'bool' } },
      });
    const add = (buffer: RingBuffer, from: number, count: number) => {
      const ids = Array.from({ length: count }, (_, i) => from + i);
      return buffer.enqueue(batchOf(from, count), {
        ids: ints(ids),
        columns: { domain: bools(ids.map((id) => id % 2 === 0)) },
      });
    };
    const first = made();
    add(first, 0, 4);
    add(first, 4, 3);
    const second = made();
    second.loadStateDict(copied(first.stateDict()));
    for (const buffer of [first, second]) add(buffer, 7, 4);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    assert.deepEqual(numbers(second.ages('enqueues', 'age')), numbers(first.ages('enqueues', 'age')));
    second.clear();
    assert.deepEqual([second.filled, second.pointer, second.total, second.enqueues], [0, 0, 0, 0]);
  });

  it('refuses a state that does not fit, before anything changes', () => {
    const buffer = new RingBuffer({ size: 4, dimension: 2, labels: true, device });
    buffer.enqueue(batchOf(0, 3), { labels: ints([1, 2, 3]) });
    const before = copied(buffer.stateDict());
    const load =
      (options: object, change: object = {}) =>
      () => {
        const other = new RingBuffer({ size: 4, dimension: 2, labels: true, device, ...options });
        const { tensors, values } = other.stateDict();
        buffer.loadStateDict({ tensors, values: { ...(values as object), ...change } });
      };
    assertRefuses(load({ size: 5 }), /must hold 'embeddings' of shape \[4, 2\], found \[5, 2\]/);
    assertRefuses(load({ dtype: 'bfloat16' }), /'embeddings' of dtype float32, found bfloat16/);
    assertRefuses(load({ labels: false }), /must hold 'labels' of shape \[4\], found none/);
    assertRefuses(load({ ids: true }), /holds 'ids', which this one was made without/);
    assertRefuses(load({}, { total: 2, filled: 1 }), /filled 1 and total 2 do not fit/);
    assertRefuses(load({}, { dimension: 3 }), /'dimension' is 3, this one has 2/);
    assertRefuses(load({}, { total: 0.5 }), /total must be an integer/);
    assert.deepEqual(everything(buffer.stateDict()), everything(before));
  });

  it('refuses entries that do not fit, before anything changes', () => {
    const buffer = new RingBuffer({
      size: 4,
      dimension: 2,
      ids: true,
      device,
      columns: { at: { dtype: 'float32', shape: [2] } },
    });
    const [ids, at] = [ints([1, 2]), torch.zeros([2, 2], { device })];
    const refuses = (options: object, message: RegExp, rows: Tensor = batchOf(0, 2)) =>
      assertRefuses(() => buffer.enqueue(rows, { ids, columns: { at }, ...options }), message);
    refuses({ ids: undefined }, /every entry needs ids/);
    refuses({ labels: ids }, /made without labels/);
    refuses({ ids: ints([1]) }, /expected ids of shape \[2\], found \[1\]/);
    refuses({ ids: at }, /ids must be int64, found float32/);
    refuses({ columns: {} }, /every entry needs the column 'at'/);
    refuses({ columns: { at, more: at } }, /made without the column 'more'/);
    refuses({ columns: { at: ids } }, /column 'at' must be float32, found int64/);
    refuses({ mask: ids }, /mask must be bool/);
    refuses({ mask: bools([true]) }, /mask of shape \[2\], found \[1\]/);
    refuses({}, /shape \[N, 2\], found \[2, 3\]/, torch.zeros([2, 3], { device }));
    refuses({}, /floating-point dtype, found int64/, torch.zeros([2, 2], { dtype: 'int64', device }));
    assertRefuses(() => buffer.labels(), /made without labels/);
    assertRefuses(() => buffer.column('other'), /made without the column 'other'/);
    assertRefuses(() => new RingBuffer({ size: 2, dimension: 0 }), /dimension must be an integer of at least 1/);
    assert.deepEqual([buffer.total, buffer.enqueues], [0, 0]);
  });

  it('gives candidates as views or copies, without gradients', () => {
    const buffer = new RingBuffer({ size: 2, dimension: 2, labels: true, ids: true, device });
    buffer.enqueue(batchOf(0, 2).requiresGrad_(), { labels: ints([5, 6]), ids: ints([7, 8]) });
    const [views, copies] = [buffer.candidates(), buffer.candidates({ copy: true })];
    buffer.enqueue(batchOf(2, 1), { labels: ints([9]), ids: ints([9]) });
    assert.deepEqual([views.embeddings, views.labels!, views.ids!].map(numbers), [
      [4, 5, 2, 3],
      [9, 6],
      [9, 8],
    ]);
    assert.deepEqual([copies.embeddings, copies.labels!, copies.ids!].map(numbers), [
      [0, 1, 2, 3],
      [5, 6],
      [7, 8],
    ]);
    assert.ok(!views.embeddings.requiresGrad);
  });

  it('does not leak', () => {
    const buffer = new RingBuffer({ size: 4, dimension: 2, dtype: 'int8', ids: true, device });
    const [rows, ids, mask] = [batchOf(0, 3), ints([1, 2, 3]), bools([true, false, true])];
    const before = memory().liveTensors;
    for (let i = 0; i < 5; i++) {
      buffer.enqueue(rows, { ids, mask });
      scope(() => void [buffer.entries('age'), buffer.ages(), buffer.candidates()]);
      buffer.to({ dtype: i % 2 === 0 ? 'float32' : 'int8' });
    }
    buffer.to({ dtype: 'int8' });
    assert.equal(memory().liveTensors, before);
  });
});
