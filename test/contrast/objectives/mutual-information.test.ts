import assert from 'node:assert/strict';
import {
  BilinearCritic,
  ConcatenatedCritic,
  infoNceBound,
  mutualInformationLoss,
  nwjBound,
  SeparableCritic,
} from '../../../src/contrast/objectives/mutual-information';
import { contrast } from '../../../src/contrast';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertFinite, assertRefuses, assertValue, learning, mean, random, rowsOf, sumExp } from './plain';

describe('bounds of mutual information', () => {
  it('are those of InfoNCE and of Nguyen, Wainwright and Jordan', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 17]) {
        const scores = random([count, count]);
        const rows = rowsOf(scores);
        const own = rows.map((row, i) => row[i]!);
        const nce = mean(rows.map((row, i) => own[i]! - Math.log(sumExp(row) / count)));
        assertValue(infoNceBound(scores), nce);
        if (count === 1) continue;
        const apart = rows.flatMap((row, i) => row.flatMap((s, j) => (i === j ? [] : [Math.exp(s)])));
        assertValue(nwjBound(scores), mean(own) - mean(apart) / Math.E);
      }
    });
  });

  it('go with the loss of contrast(), and have right gradients', () => {
    scope(() => {
      const [a, b] = [random([7, 3]), random([7, 3])];
      const labels = torch.arange(7, { dtype: 'int64' });
      const loss = contrast({
        anchors: a,
        candidates: { embeddings: b, labels },
        labels,
        similarity: 'dot',
        temperature: 1,
      });
      assertClose(infoNceBound(a.matmul(b.t())), loss.neg().add(Math.log(7)), { atol: 1e-10 });
      gradcheck((scores) => infoNceBound(scores!), [learning([4, 4])]);
      gradcheck((scores) => nwjBound(scores!), [learning([4, 4])]);
    });
    assertFinite(
      (temperature, a, b) => infoNceBound(a!.matmul(b!.t()).div(temperature)).neg(),
      [
        [5, 3],
        [5, 3],
      ],
    );
    assertRefuses(() => infoNceBound(random([2, 3])), /scores: expected shape \[K, K\], found \[2, 3\]/);
    assertRefuses(() => nwjBound(random([1, 1])), /one pair has no scores off the diagonal/);
  });
});

describe('critics', () => {
  it('score every pair', () => {
    scope(() => {
      const [a, b] = [random([4, 3], 'float32'), random([4, 2], 'float32')];
      const sizes = { firstDimension: 3, secondDimension: 2 };
      const bilinear = new BilinearCritic(sizes);
      const separable = new SeparableCritic({ ...sizes, hidden: 5, dimension: 4 });
      const concatenated = new ConcatenatedCritic({ ...sizes, hidden: 5 });
      const single = (critic: { forward(x: Tensor, y: Tensor): Tensor }, i: number, j: number): Tensor =>
        critic.forward(a.narrow(0, i, 1), b.narrow(0, j, 1)).reshape([]);
      for (const critic of [bilinear, separable, concatenated]) {
        const scores = critic.forward(a, b);
        assert.deepEqual([...scores.shape], [4, 4]);
        for (const [i, j] of [
          [0, 0],
          [1, 3],
          [3, 2],
        ] as const)
          assertClose(scores.at(i, j), single(critic, i, j), { atol: 1e-5 });
        const loss = mutualInformationLoss(a, b, critic);
        assertClose(loss, infoNceBound(scores).neg());
        loss.backward();
        for (const [name, parameter] of critic.namedParameters()) {
          // The last layer's bias of a network of both moves all scores alike.
          if (parameter.ndim > 1) assert.notEqual(parameter.grad, null, name);
        }
        assertClose(mutualInformationLoss(a, b, critic, nwjBound), nwjBound(scores).neg());
      }
      assertClose(bilinear.forward(a, b), a.matmul(bilinear.weight).matmul(b.t()));
      assertRefuses(() => mutualInformationLoss(a, random([3, 2]), bilinear), /second: expected shape/);
    });
  });
});
