import assert from 'node:assert/strict';
import { getThreads, manualSeed, ops, scope, setThreads, torch, type Tensor } from '../../src/torch';
import { assertClose } from '../support/close';

const largest = (scores: Tensor, count: number): [Tensor, Tensor] =>
  ops.kontrast!.largest!(scores, count) as [Tensor, Tensor];
const pairLengths = (...given: [Tensor, Tensor, Tensor, Tensor]): Tensor =>
  ops.kontrast!.pair_lengths!(...given) as Tensor;

/** The columns of each row's largest, in their order; of equal ones the first, NaN the largest of all. */
function columnsByLoop(rows: readonly number[][], count: number): number[][] {
  const compare = (x: number, y: number): number => {
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(y)) - Number(Number.isNaN(x));
    return x === y ? 0 : x < y ? 1 : -1;
  };
  return rows.map((row) => {
    const order = row.map((_, column) => column).sort((a, b) => compare(row[a]!, row[b]!) || a - b);
    return order.slice(0, count).sort((a, b) => a - b);
  });
}

describe('kontrast::largest', () => {
  const check = (scores: Tensor, count: number): void => {
    const rows = scores.toArraySync() as number[][];
    const [values, places] = largest(scores, count);
    const expected = columnsByLoop(rows, count);
    const columns = (places.toArraySync() as (number | bigint)[][]).map((row) => row.map(Number));
    assert.deepEqual(columns, expected);
    assert.deepEqual(
      values.toArraySync(),
      expected.map((row, r) => row.map((column) => rows[r]![column]!)),
    );
  };

  it('finds them as a sort does, in wide rows and narrow ones, for few and for all', () => {
    manualSeed(1);
    scope(() => {
      for (const dtype of ['float32', 'float64'] as const) {
        check(torch.randn([3, 9000], { dtype }), 500);
        check(torch.randn([2, 9000], { dtype }), 9000);
        check(torch.randn([5, 17], { dtype }), 1);
        check(torch.randn([9, 1], { dtype }), 1);
        check(torch.randn([40, 6], { dtype }).t(), 3);
      }
    });
  });

  it('takes the first of equal ones', () => {
    scope(() => {
      manualSeed(2);
      check(torch.randint(0, 5, [4, 8192], { dtype: 'int64' }).to('float32'), 300);
      check(torch.zeros([2, 8192]), 10);
    });
  });

  it('finds what a sample of the row does not tell of', () => {
    scope(() => {
      // The sample sees high numbers only, so that too few are above the first guess.
      const scores = torch.zeros([1, 8192]);
      for (let column = 0; column < 8192; column += 8) scores.setAt_(5 + column / 8192, 0, column);
      check(scores, 1500);
    });
  });

  it('has room for infinities, and counts NaN as the largest', () => {
    scope(() => {
      const scores = torch.arange(8192, { dtype: 'float32' }).view([1, -1]).clone();
      scores.setAt_(NaN, 0, 3);
      scores.setAt_(NaN, 0, 4096);
      scores.setAt_(Infinity, 0, 9);
      scores.setAt_(-Infinity, 0, 10);
      check(scores, 1);
      check(scores, 2);
      check(scores, 4);
      check(scores, 8192);
    });
  });

  it('gives the same for any number of threads', () => {
    const before = getThreads();
    manualSeed(3);
    scope(() => {
      const scores = torch.randn([64, 8192]);
      setThreads(1);
      const [one] = largest(scores, 700);
      setThreads(2);
      const [two] = largest(scores, 700);
      setThreads(before);
      assert.deepEqual(one.toArraySync(), two.toArraySync());
    });
  });

  it('refuses what it cannot search', () => {
    assert.throws(() => largest(torch.zeros([3]), 1), /a matrix on the CPU/);
    assert.throws(() => largest(torch.zeros([3, 2], { dtype: 'int64' }), 1), /float32 or float64/);
    assert.throws(() => largest(torch.zeros([3, 2]), 3), /from 1 to the 2 columns/);
    assert.throws(() => largest(torch.zeros([3, 2]), 0), /from 1 to the 2 columns/);
  });
});

describe('kontrast::pair_lengths', () => {
  it('gives the lengths of the mixes', () => {
    manualSeed(4);
    scope(() => {
      for (const [dtype, atol] of [
        ['float64', 1e-12],
        ['float32', 1e-5],
      ] as const) {
        for (const depth of [1, 3, 16, 33]) {
          const keys = torch.randn([7, depth], { dtype });
          const places = (): Tensor => torch.randint(0, 7, [5, 11], { dtype: 'int64' });
          const [i, j] = [places(), places()];
          const share = torch.rand([5, 11], { dtype });
          const rows = (at: Tensor): Tensor => keys.indexSelect(0, at.flatten()).view([5, 11, depth]);
          const mixes = rows(i)
            .mul(share.unsqueeze(2))
            .add(rows(j).mul(share.neg().add(1).unsqueeze(2)));
          assertClose(pairLengths(keys, i, j, share), mixes.square().sum([2]).sqrt(), { atol, rtol: 0 });
        }
      }
    });
  });

  it('takes views', () => {
    scope(() => {
      const keys = torch
        .tensor([
          [3, 0],
          [4, 0],
        ])
        .t();
      const both = torch.tensor([[0, 1]], { dtype: 'int64' });
      const found = pairLengths(keys, both.narrow(1, 0, 1), both.narrow(1, 1, 1), torch.ones([1, 1]));
      assert.deepEqual(found.toArraySync(), [[5]]);
    });
  });

  it('refuses rows that there are none of, and what does not fit', () => {
    const keys = torch.zeros([3, 2]);
    const places = torch.tensor([0, 2], { dtype: 'int64' });
    const share = torch.zeros([2]);
    assert.throws(() => pairLengths(keys, places, places.add(1), share), /second must hold rows of keys, from 0 to 2/);
    assert.throws(() => pairLengths(keys, places.neg(), places, share), /first must hold rows of keys/);
    assert.throws(() => pairLengths(keys, places, places, torch.zeros([3])), /must have the shape of share/);
    assert.throws(() => pairLengths(keys, places.to('int32'), places, share), /must be int64/);
    assert.throws(() => pairLengths(keys, places, places, share.to('float64')), /both be float32 or both float64/);
  });
});
