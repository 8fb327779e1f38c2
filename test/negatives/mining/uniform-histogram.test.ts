import assert from 'node:assert/strict';
import fc from 'fast-check';
import { UniformHistogramMiner } from '../../../src/negatives/mining';
import { Generator, scope, torch } from '../../../src/torch';
import { rowsOf } from '../../contrast/objectives/plain';
import { listed, makeCase, sorted } from './plain';

describe('UniformHistogramMiner', () => {
  it('draws as many pairs of each range that has any, as a loop does', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 0, max: 100 }),
        (labels, bins, seed) =>
          scope(() => {
            const one = makeCase(labels);
            const [mine, yours] = [3, 2];
            const miner = new UniformHistogramMiner({ bins, positivesPerBin: mine, negativesPerBin: yours, seed });
            const draws = new Generator({ seed });
            const expected = one.pairs.flatMap((pairs, side) => {
              const perBin = [mine, yours][side]!;
              const shares = rowsOf(torch.rand([bins, perBin], { dtype: 'float64', generator: draws }));
              const d = pairs.map(([a, b]) => one.distances[a!]![b!]!);
              const [least, most] = [Math.min(...d), Math.max(...d)];
              const binOf = d.map((x) =>
                most > least ? Math.min(bins - 1, Math.floor(((x - least) / (most - least)) * bins)) : 0,
              );
              const drawn = shares.flatMap((row, bin) => {
                const inBin = pairs.filter((_, i) => binOf[i] === bin);
                return inBin.length === 0 ? [] : row.map((share) => inBin[Math.floor(share * inBin.length)]!);
              });
              return [drawn.map(([a]) => a!), drawn.map(([, b]) => b!)];
            });
            assert.deepEqual(listed(miner.mine(one.batch)), expected);
          }),
      ),
      { numRuns: 40, seed: 2 },
    );
  });

  it('goes on from a state with the same draws', () => {
    scope(() => {
      const { batch } = makeCase([0, 1, 0, 2, 1, 2, 2, 0, 3]);
      const [first, second] = [new UniformHistogramMiner({ bins: 5 }), new UniformHistogramMiner({ bins: 5, seed: 9 })];
      first.mine(batch);
      second.loadStateDict(first.stateDict());
      const again = second.mine(batch);
      assert.deepEqual(listed(again), listed(first.mine(batch)));
      assert.notDeepEqual(sorted(listed(again)), []);
    });
  });
});
