import assert from 'node:assert/strict';
import { Generator, keep, noGrad, torch, type Tensor } from '../../src/torch';
import { BatchNorm1d, shuffledBatch } from '../../src/norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { inRanks } from '../support/ranks';

describe('shuffledBatch', () => {
  it('shows the encoder another order and gives the rows back in the given one', () => {
    const x = torch.arange(20, { dtype: 'float32', device }).view([20, 1]);
    let seen: number[] = [];
    const y = shuffledBatch(x, (shuffled) => {
      seen = numbers(shuffled);
      return shuffled.mul(2);
    });
    assert.notDeepEqual(seen, numbers(x));
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      numbers(x),
    );
    assert.deepEqual(numbers(y), numbers(x.mul(2)));
  });

  it('takes the order from the generator alone', () => {
    const x = torch.arange(10, { dtype: 'float32', device });
    const orders = [1, 1, 2].map((seed) => {
      let seen: number[] = [];
      shuffledBatch(x, (shuffled) => ((seen = numbers(shuffled)), shuffled), { generator: new Generator({ seed }) });
      return seen;
    });
    assert.deepEqual(orders[0], orders[1]);
    assert.notDeepEqual(orders[0], orders[2]);
  });

  describe('over several ranks', () => {
    const ranks = 3;
    const whole = torch.randn([12, 2], { dtype: 'float64', device });
    const parts = whole.split(4);

    /** What each rank got, and what it was shown. */
    function run(encode: (x: Tensor) => Tensor): { given: Tensor[]; seen: Tensor[] } {
      const found = inRanks(ranks, (exchange) => {
        let seen: Tensor | undefined;
        const body = (x: Tensor): Tensor => encode((seen = keep(x)));
        const generator = new Generator({ seed: 7 });
        const given = shuffledBatch(parts[exchange.rank]!, body, { generator, exchange });
        return { given, seen: seen! };
      });
      return { given: found.map(({ given }) => given), seen: found.map(({ seen }) => seen) };
    }

    it('gives every rank a share of all samples in one order, and its own rows back', () => {
      const { given, seen } = run((x) => x.mul(2));
      assert.notDeepEqual(numbers(torch.cat(seen)), numbers(whole));
      const rows = (x: Tensor) => (x.toArraySync() as number[][]).map(String).sort();
      assert.deepEqual(rows(torch.cat(seen)), rows(whole));
      given.forEach((mine, rank) => assertClose(mine, parts[rank]!.mul(2), { atol: 0 }));
    });

    it('has each share normalised by its own statistics, as in the paper', () => {
      const norm = new BatchNorm1d({ features: 2, dtype: 'float64', device, trackRunningStats: false, affine: false });
      const { given, seen } = run((x) => noGrad(() => norm.forward(x)));
      const places = (x: Tensor) => (x.toArraySync() as number[][]).map(String);
      const expected = new Map(
        seen.flatMap((share) => {
          const y = noGrad(() => norm.forward(share));
          return places(share).map((row, i) => [row, y.at(i)] as const);
        }),
      );
      places(whole).forEach((row, i) => assertClose(torch.cat(given).at(i), expected.get(row)!, { atol: 1e-12 }));
    });

    it('refuses unequal ranks, and gradients that would not arrive', () => {
      const exchange = { rank: 0, ranks: 2, allGather: (rows: Tensor) => torch.cat([rows, rows.narrow(0, 0, 1)]) };
      const x = parts[0]!;
      assert.throws(
        () => shuffledBatch(x, (y) => y, { exchange }),
        /rank 0 of 2 has 4 samples, but all together have 5/,
      );
      const twice = { ...exchange, allGather: (rows: Tensor) => torch.cat([rows, rows]) };
      const weight = torch.ones([2], { dtype: 'float64', device }).requiresGrad_();
      assert.throws(
        () => shuffledBatch(x, (y) => y.mul(weight), { exchange: twice }),
        /no gradient passes from rank to rank/,
      );
      assert.throws(() => shuffledBatch(x, (y) => y, { exchange: { ...twice, rank: -1 } }), /rank/);
    });
  });
});
