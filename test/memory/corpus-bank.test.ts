import assert from 'node:assert/strict';
import fc from 'fast-check';
import { contrast } from '../../src/contrast';
import { CorpusBank } from '../../src/memory';
import { scope, torch } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, dot, everything, ints, mean, random, rowsOf, unit, value } from './plain';

describe('CorpusBank', () => {
  it('holds unit rows of a tensor or of its batches, and serves the whole softmax', () => {
    scope(() => {
      for (const size of [1, 2, 3, 9]) {
        const x = random([size, 3]);
        const bank = new CorpusBank({ embeddings: x, dtype: 'float64', device });
        const inBatches = new CorpusBank({ embeddings: x.split(2), dtype: 'float64', device });
        assertClose(inBatches.entries(), bank.entries(), { atol: 0, rtol: 0 });
        const rows = rowsOf(x).map(unit);
        assertNear(numbers(bank.entries()), rows.flat());
        const queries = random([2, 3]);
        const targets = [size - 1, 0];
        const loss = contrast({
          anchors: queries,
          labels: ints(targets),
          candidates: bank.candidates(),
          temperature: 0.2,
        });
        const expected = rowsOf(queries).map((row, i) => {
          const logits = rows.map((v) => dot(v, unit(row)) / 0.2);
          return Math.log(logits.reduce((sum, s) => sum + Math.exp(s), 0)) - logits[targets[i]!]!;
        });
        assertNear([value(loss)], [mean(expected)]);
      }
    });
  });

  it('does not change with the tensor it was made from', () => {
    const x = torch.ones([2, 2], { device });
    const bank = new CorpusBank({ embeddings: x, normalize: false });
    x.zero_();
    assert.deepEqual(numbers(bank.entries()), [1, 1, 1, 1]);
    assert.equal(bank.size, 2);
  });

  it('draws distinct negatives without the target, every other row alike', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 8 }), fc.integer({ min: 1, max: 7 }), fc.integer(), (size, wanted, seed) =>
        scope(() => {
          const count = Math.min(wanted, size - 1);
          const bank = new CorpusBank({ embeddings: random([size, 2]), seed, device });
          const targets = Array.from({ length: size }, (_, i) => i);
          const { embeddings, rows } = bank.draw(ints(targets), count);
          rowsOf(rows).forEach((row, target) => {
            assert.equal(new Set(row).size, count);
            assert.ok(row.every((j) => j !== target && j >= 0 && j < size));
          });
          assertClose(embeddings, bank.rows(rows.flatten()).view([size, count, 2]), { atol: 0, rtol: 0 });
        }),
      ),
      { numRuns: 30, seed: 4 },
    );
    scope(() => {
      const bank = new CorpusBank({ embeddings: random([6, 2]), device });
      const drawn = numbers(bank.draw(ints(Array<number>(5000).fill(2)), 1).rows);
      for (const row of [0, 1, 3, 4, 5]) {
        const times = drawn.filter((j) => j === row).length;
        assert.ok(Math.abs(times - 1000) < 150, `${row}: ${times}`);
      }
    });
  });

  it('holds int8', () => {
    const x = random([5, 4]);
    const bank = new CorpusBank({ embeddings: [x, x], dtype: 'int8', device });
    const wide = new CorpusBank({ embeddings: [x, x], device });
    assert.equal(bank.stateDict().tensors.get('embeddings')!.dtype, 'int8');
    assertClose(bank.entries(), wide.entries(), { atol: 0.5 / 127 });
    assertClose(bank.rows(ints([7, 1])), bank.entries().indexSelect(0, ints([7, 1])), { atol: 0, rtol: 0 });
  });

  it('goes on exactly from its state', () => {
    const [first, second] = [1, 2].map((seed) => new CorpusBank({ embeddings: random([9, 2]), seed, device })) as [
      CorpusBank,
      CorpusBank,
    ];
    const targets = ints([0, 4, 8]);
    first.draw(targets, 3);
    second.loadStateDict(copied(first.stateDict()));
    assert.deepEqual(numbers(second.draw(targets, 3).rows), numbers(first.draw(targets, 3).rows));
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    const other = new CorpusBank({ embeddings: random([8, 2]), device });
    assertRefuses(() => first.loadStateDict(other.stateDict()), /'embeddings' of shape \[9, 2\], found \[8, 2\]/);
  });

  it('refuses what does not fit', () => {
    const bank = new CorpusBank({ embeddings: random([3, 2]), device });
    assertRefuses(() => bank.draw(ints([0]), 3), /3 negatives were asked for, and there are 2/);
    assertRefuses(() => bank.draw(ints([3]), 1), /targets must be from 0 to 2, found 3/);
    assertRefuses(() => bank.rows(ints([-1])), /rows must be from 0 to 2, found -1/);
    assertRefuses(() => new CorpusBank({ embeddings: [] }), /there are no embeddings/);
    assertRefuses(
      () => new CorpusBank({ embeddings: [random([1, 2]), random([1, 3])] }),
      /shape \[N, 2\], found \[1, 3\]/,
    );
    assertRefuses(() => new CorpusBank({ embeddings: random([0, 2]) }), /there are no embeddings/);
  });
});
