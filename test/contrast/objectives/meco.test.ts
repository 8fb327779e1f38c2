import assert from 'node:assert/strict';
import { Meco } from '../../../src/contrast/objectives/meco';
import { grad, gradcheck, scope, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertFinite, assertRefuses, assertValue, learning, mean, random, total } from './plain';

const partition = (noise: Tensor, densities: Tensor): number => {
  const [f, q] = [numbers(noise.detach()), numbers(densities.detach())];
  return mean(f.map((x, i) => Math.exp(x - q[i]!)));
};

describe('Meco', () => {
  it('follows the partition function, and divides its gradient by the average', () => {
    scope(() => {
      const loss = new Meco({ rate: 0.3 });
      let u = NaN;
      for (const [count, drawn] of [
        [1, 1],
        [2, 3],
        [3, 2],
        [5, 7],
        [13, 11],
      ] as const) {
        const [data, noise, densities] = [learning([count]), learning([drawn]), random([drawn])];
        const z = partition(noise, densities);
        u = Number.isNaN(u) ? z : 0.7 * u + 0.3 * z;
        const value = loss.forward(data, noise, densities);
        assertValue(value, Math.log(u) - total(numbers(data.detach())) / count);
        const [forData, forNoise] = grad(value, [data, noise]);
        assertClose(
          forData!,
          data
            .detach()
            .mul(0)
            .sub(1 / count),
          { atol: 1e-12 },
        );
        assertClose(
          forNoise!,
          noise
            .detach()
            .sub(densities)
            .exp()
            .div(drawn * u),
          { atol: 1e-10 },
        );
      }
    });
  });

  it("with a rate of 1 is the batch's own likelihood, by finite differences", () => {
    scope(() => {
      const densities = random([4]);
      const loss = new Meco({ rate: 1 });
      gradcheck((data, noise) => loss.forward(data!, noise!, densities), [learning([3]), learning([4])]);
    });
  });

  it('keeps its average in the state dict, and holds it still in evaluation mode', () => {
    scope(() => {
      const batches = Array.from({ length: 3 }, () => [random([4]), random([5]), random([5])] as const);
      const [one, other] = [new Meco(), new Meco()];
      one.forward(...batches[0]!);
      assert.deepEqual([...one.stateDict().keys()], ['log_partition']);
      other.loadStateDict(one.stateDict());
      assertClose(other.forward(...batches[1]!), one.forward(...batches[1]!), { atol: 1e-12 });
      const before = one.logPartition.itemSync();
      one.eval().forward(...batches[2]!);
      assert.equal(one.logPartition.itemSync(), before);
    });
  });

  it('is finite for scores of all sizes, and refuses what does not fit', () => {
    assertFinite((t, data, noise) => new Meco().forward(data!.div(t), noise!.div(t), noise!.detach()), [[6], [7]]);
    assertRefuses(() => new Meco({ rate: 0 }), /Meco: rate must be a number above 0 and at most 1/);
    assertRefuses(
      () => new Meco().forward(random([2]), random([2]), random([3])),
      /noiseLogDensities: expected shape \[2\]/,
    );
  });
});
