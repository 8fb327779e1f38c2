import assert from 'node:assert/strict';
import { DistanceWeightedMiner } from '../../../src/negatives/mining';
import { Generator, scope, torch } from '../../../src/torch';
import { assertRefuses } from '../../contrast/objectives/plain';
import { integersOf, labelsOf, listed, makeCase, makeCases, rowsOfTriplets, type Case } from './plain';

describe('DistanceWeightedMiner', () => {
  /** The weights of an anchor's negatives by a loop. */
  function weights({ distances, pairs }: Case, a: number, cutoff = 0.5, farthest = 1.4, dimension = 4): number[] {
    const negatives = new Set(pairs[1].filter(([x]) => x === a).map(([, n]) => n!));
    return distances[a]!.map((distance, n) => {
      const d = Math.max(distance, cutoff);
      const density = d ** (dimension - 2) * (1 - (d * d) / 4) ** ((dimension - 3) / 2);
      return negatives.has(n) && d < farthest ? 1 / density : 0;
    });
  }

  it('draws as a loop over the same random numbers', () => {
    scope(() => {
      makeCases().forEach((one, seed) => {
        const shares = integersOf(
          torch.rand([one.pairs[0].length], { dtype: 'float64', generator: new Generator({ seed }) }),
        );
        const expected = one.pairs[0].flatMap(([a, p], i) => {
          const all = weights(one, a!);
          const sum = all.reduce((x, y) => x + y, 0);
          let before = 0;
          const n = all.findIndex((weight) => (before += weight / sum) > shares[i]!);
          return sum > 0 ? [[a!, p!, n]] : [];
        });
        assert.deepEqual(rowsOfTriplets(new DistanceWeightedMiner({ seed }).mine(one.batch)), expected);
      });
    });
  });

  it('draws in proportion to the weights, and never what weighs nothing', () => {
    scope(() => {
      const one = makeCase([0, 0, 1, 2, 3, 4, 5, 6]);
      const miner = new DistanceWeightedMiner();
      const counts = new Map<number, number>();
      const draws = 4000;
      for (let time = 0; time < draws / 200; time++) {
        // A hundred anchors alike, each with one positive.
        const embeddings = one.batch.embeddings.narrow(0, 0, 1).expand([200, 4]);
        const found = miner.mine({
          embeddings,
          labels: labelsOf(Array<number>(200).fill(0)),
          reference: {
            embeddings: one.batch.embeddings.narrow(0, 1, 7),
            labels: one.batch.labels!.narrow(0, 1, 7),
          },
        });
        for (const [, , n] of rowsOfTriplets(found)) counts.set(n!, (counts.get(n!) ?? 0) + 1);
      }
      const expected = weights(one, 0).slice(1);
      const sum = expected.reduce((x, y) => x + y, 0);
      expected.forEach((weight, n) => {
        const share = (counts.get(n) ?? 0) / draws;
        if (weight === 0) assert.equal(share, 0);
        assert.ok(Math.abs(share - weight / sum) < 0.04, `${n}: ${share}, not ${weight / sum}`);
      });
    });
  });

  it('goes on from a state with the same draws, and refuses one that is none', () => {
    scope(() => {
      const { batch } = makeCase([0, 1, 0, 2, 1, 2, 2, 0, 3]);
      const [first, second] = [new DistanceWeightedMiner({ seed: 1 }), new DistanceWeightedMiner({ seed: 2 })];
      first.mine(batch);
      second.loadStateDict(first.stateDict());
      assert.deepEqual(listed(second.mine(batch)), listed(first.mine(batch)));
      assertRefuses(() => {
        first.loadStateDict({ tensors: new Map(), values: {} });
      }, /DistanceWeightedMiner: the state dict lacks 'generator'/);
      const state = first.stateDict().tensors.get('generator')!;
      assertRefuses(() => first.mine({ embeddings: batch.embeddings }), /give labels/);
      assert.ok(state.equal(first.stateDict().tensors.get('generator')!));
    });
  });
});
