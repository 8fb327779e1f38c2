import assert from 'node:assert/strict';
import { RationaleInvariance } from '../../src/memory';
import { gradcheck, type Tensor } from '../../src/torch';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, everything, ints, mean, random, rowsOf, value } from './plain';

const make = () => new RationaleInvariance({ classes: 3, dimension: 2, momentum: 0.7, dtype: 'float64', device });

describe('RationaleInvariance', () => {
  it('equals a loop over the classes of each batch', () => {
    const invariance = make();
    const averages = new Map<number, number[][]>();
    for (const labels of [[1], [0, 1, 1], [2, 2], [0, 1, 2, 1, 0, 0, 0]]) {
      const [features, weight] = [random([labels.length, 2]), random([3, 2])];
      const rationales = rowsOf(features).map((z) => rowsOf(weight).map((w) => w.map((x, d) => x * z[d]!)));
      let expected = 0;
      for (const y of new Set(labels)) {
        const own = rationales.filter((_, i) => labels[i] === y);
        const batch = own[0]!.map((row, c) => row.map((_, d) => mean(own.map((r) => r[c]![d]!))));
        const old = averages.get(y);
        const moved = old === undefined ? batch : batch.map((row, c) => row.map((x, d) => 0.7 * old[c]![d]! + 0.3 * x));
        averages.set(y, moved);
        // The mean over samples and classes of squared lengths.
        expected += mean(
          own.flatMap((r) => r.map((row, c) => row.reduce((sum, x, d) => sum + (x - moved[c]![d]!) ** 2, 0))),
        );
      }
      assertNear([value(invariance.loss(features, weight, ints(labels)))], [expected]);
    }
  });

  it('has the gradients of finite differences, with fixed averages', () => {
    const invariance = make();
    invariance.loss(random([6, 2]), random([3, 2]), ints([0, 1, 2, 0, 1, 2]));
    // With momentum 1 averages stay, so that differences see the same ones as the loss.
    const fixed = new RationaleInvariance({ classes: 3, dimension: 2, momentum: 1, dtype: 'float64', device });
    fixed.loadStateDict(copied(invariance.stateDict()));
    const inputs = [random([4, 2]).requiresGrad_(), random([3, 2]).requiresGrad_()];
    gradcheck((z: Tensor, w: Tensor) => fixed.loss(z, w, ints([2, 0, 2, 1])), inputs);
  });

  it('goes on exactly from its state', () => {
    const [first, second] = [make(), make()];
    first.loss(random([2, 2]), random([3, 2]), ints([0, 2]));
    second.loadStateDict(copied(first.stateDict()));
    const batch = [random([3, 2]), random([3, 2]), ints([2, 1, 2])] as const;
    assert.equal(value(second.loss(...batch)), value(first.loss(...batch)));
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
  });

  it('refuses what does not fit, before anything changes', () => {
    const invariance = make();
    const [z, w] = [random([2, 2]), random([3, 2])];
    assertRefuses(() => invariance.loss(z, w, ints([0, 3])), /labels must be from 0 to 2, found 3/);
    assertRefuses(() => invariance.loss(z, random([2, 2]), ints([0, 1])), /weight of shape \[3, 2\], found \[2, 2\]/);
    assertRefuses(() => invariance.loss(random([2, 3]), w, ints([0, 1])), /features of shape \[N, 2\]/);
    assertRefuses(() => invariance.loss(random([0, 2]), w, ints([])), /there are no features/);
    assert.equal(value(invariance.averages.counts().sum()), 0);
  });
});
