import assert from 'node:assert/strict';
import fc from 'fast-check';
import { SampleHistory } from '../../src/memory';
import { scope, torch } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import { assertRefuses, copied, everything, ints, random, rowsOf } from './plain';

describe('SampleHistory', () => {
  it('keeps the last values of every sample, in any order of records', () => {
    const batches = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 4 })), { maxLength: 12 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), batches, (length, records) =>
        scope(() => {
          const history = new SampleHistory({ samples: 5, shape: [2], length, device });
          const model: number[][] = [[], [], [], [], []];
          records.forEach((ids, step) => {
            const values = ids.map((id) => step * 10 + id);
            history.record(
              ints(ids),
              torch
                .tensor(
                  values.map((x) => [x, -x]),
                  { device },
                )
                .view([ids.length, 2]),
            );
            ids.forEach((id, i) => model[id]!.push(values[i]!));
          });
          const all = ints([0, 1, 2, 3, 4]);
          assert.deepEqual(
            numbers(history.counts()),
            model.map((values) => values.length),
          );
          const last = model.flatMap((values) => [values.at(-1) ?? 0, -(values.at(-1) ?? 0)].map((x) => x + 0));
          assert.deepEqual(
            numbers(history.last(all)).map((x) => x + 0),
            last,
          );
          const { values, there } = history.history(all);
          model.forEach((row, id) => {
            const kept = row.slice(-length);
            const mask = Array.from({ length }, (_, i) => i < kept.length);
            assert.deepEqual(rowsOf(there)[id]!.map(Boolean), mask);
            const shown = numbers(values.select(0, id).select(1, 0));
            assert.deepEqual(
              shown,
              mask.map((is, i) => (is ? kept[i]! : 0)),
            );
          });
          history.dispose();
        }),
      ),
      { numRuns: 40, seed: 5 },
    );
  });

  it('takes a fallback where there is no record', () => {
    const history = new SampleHistory({ samples: 3, dtype: 'float64', device });
    history.record(ints([1]), random([1]).fill_(7));
    assert.deepEqual(numbers(history.last(ints([1, 2]), random([2]).fill_(3))), [7, 3]);
    history.clear();
    assert.deepEqual(numbers(history.last(ints([1]))), [0]);
  });

  it('goes on exactly from its state', () => {
    const made = () => new SampleHistory({ samples: 4, length: 2, dtype: 'float64', device });
    const [first, second] = [made(), made()];
    for (let i = 0; i < 3; i++) first.record(ints([0, i + 1]), random([2]));
    second.loadStateDict(copied(first.stateDict()));
    const values = random([2]);
    for (const history of [first, second]) history.record(ints([3, 0]), values);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    const other = new SampleHistory({ samples: 4, length: 3, dtype: 'float64', device });
    assertRefuses(() => first.loadStateDict(other.stateDict()), /'length' is 3, this one has 2/);
  });

  it('refuses what does not fit, before anything changes', () => {
    const history = new SampleHistory({ samples: 3, dtype: 'float64', device });
    assertRefuses(() => history.record(ints([1, 1]), random([2])), /ids must be distinct/);
    assertRefuses(() => history.record(ints([3]), random([1])), /ids must be from 0 to 2, found 3/);
    assertRefuses(() => history.record(ints([0]), random([2])), /values of shape \[1\], found \[2\]/);
    assertRefuses(
      () => history.record(ints([0]), torch.zeros([1], { device })),
      /values must be float64, found float32/,
    );
    assertRefuses(() => history.last(ints([0]), random([2])), /fallback of shape \[1\]/);
    assertRefuses(() => history.last(random([1, 1])), /ids must be of shape \[N\]/);
    assert.deepEqual(numbers(history.counts()), [0, 0, 0]);
  });
});
