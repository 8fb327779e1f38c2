import assert from 'node:assert/strict';
import { BadPairMining } from '../../src/memory';
import { torch, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, everything, ints, mean, random } from './plain';

const SAMPLES = 9;
const EPOCHS = 6;
const make = () => new BadPairMining({ samples: SAMPLES, epochs: EPOCHS, warmup: 2, noisy: 1, faulty: 1.2, device });

describe('BadPairMining', () => {
  it('equals a loop that remembers every loss', () => {
    const mining = make();
    const memory: [epoch: number, loss: number][][] = Array.from({ length: SAMPLES }, () => []);
    let bad = 0;
    for (let epoch = 0; epoch < EPOCHS; epoch++) {
      mining.startEpoch(epoch);
      const means = memory.map((row) => mean(row.map(([e, loss]) => (loss * (e + 1)) / EPOCHS)));
      const known = means.filter((x) => !Number.isNaN(x));
      const mu = mean(known);
      const sigma = Math.sqrt(mean(known.map((x) => (x - mu) ** 2)));
      const verdict = (i: number) => {
        if (epoch < 2 || memory[i]!.length === 0) return 0;
        return means[i]! <= mu - sigma ? -1 : means[i]! >= mu + 1.2 * sigma ? 1 : 0;
      };
      const verdicts = memory.map((_, i) => verdict(i));
      assert.deepEqual(numbers(mining.verdicts()), verdicts);
      // The last sample is never seen.
      for (const ids of [[0, 1, 2], [3], [7, 5, 4, 6]]) {
        const losses = random([ids.length])
          .abs()
          .add(ids.length === 1 ? 2 : 0.1);
        const weights = mining.weights(ints(ids), losses.requiresGrad_());
        const expected = ids.map((id, i) => {
          const loss = numbers(losses.detach())[i]!;
          memory[id]!.push([epoch, loss]);
          if (verdicts[id] === 0) return 1;
          bad++;
          return Math.exp(-(((loss - mu) / sigma) ** 2) / 2) / (sigma * Math.sqrt(2 * Math.PI));
        });
        assertNear(numbers(weights), expected);
        assert.ok(!weights.requiresGrad);
      }
    }
    assert.ok(bad > 3);
  });

  it('takes no pair for bad where all are alike', () => {
    const mining = make();
    const all = ints([0, 1, 2]);
    for (let epoch = 0; epoch < 4; epoch++) {
      mining.startEpoch(epoch);
      assert.deepEqual(numbers(mining.weights(all, torch.ones([3], { dtype: 'float64', device }))), [1, 1, 1]);
    }
  });

  it('goes on exactly from its state, in the middle of an epoch', () => {
    const [first, second] = [make(), make()];
    const step = (mining: BadPairMining, losses: Tensor) => numbers(mining.weights(ints([0, 4, 8, 2]), losses));
    for (let epoch = 0; epoch < 3; epoch++) {
      first.startEpoch(epoch);
      step(first, random([4]).abs());
    }
    second.loadStateDict(copied(first.stateDict()));
    const losses = random([4]).abs();
    assert.deepEqual(step(second, losses), step(first, losses));
    for (const mining of [first, second]) mining.startEpoch(3);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    const other = new BadPairMining({ samples: SAMPLES, epochs: 7, device });
    assertRefuses(() => first.loadStateDict(other.stateDict()), /'epochs' is 7, this one has 6/);
  });

  it('refuses what does not fit, before anything changes', () => {
    const mining = make();
    const before = everything(copied(mining.stateDict()));
    assertRefuses(() => mining.weights(ints([0, 0]), random([2])), /ids must be distinct/);
    assertRefuses(() => mining.weights(ints([9]), random([1])), /ids must be from 0 to 8, found 9/);
    assertRefuses(() => mining.weights(ints([0]), random([2])), /losses of shape \[1\], found \[2\]/);
    assertRefuses(() => mining.weights(ints([0]), ints([2])), /losses must be float32, found int64/);
    assertRefuses(() => mining.startEpoch(-1), /epoch must be an integer of at least 0/);
    assert.deepEqual(everything(mining.stateDict()), before);
  });
});
