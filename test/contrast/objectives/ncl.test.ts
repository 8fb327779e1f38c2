import assert from 'node:assert/strict';
import { featureStatistics, nonNegativeContrastive, RepReLU, repRelu } from '../../../src/contrast/objectives/ncl';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const near = (actual: number, expected: number, tolerance = 1e-6): void =>
  assert.ok(Math.abs(actual - expected) < tolerance, `${actual}, not ${expected}`);

describe('repRelu', () => {
  it("has ReLU's value and GELU's gradient", () => {
    scope(() => {
      const x = learning([4, 5]);
      const weight = random([4, 5]);
      assertClose(repRelu(x), x.relu());
      assertClose(new RepReLU().forward(x), x.relu());
      const [slope] = grad(repRelu(x).mul(weight).sum(), [x]);
      const [expected] = grad(x.gelu().mul(weight).sum(), [x]);
      assertClose(slope!, expected!, { atol: 1e-12 });
    });
  });
});

describe('nonNegativeContrastive', () => {
  it('is NT-Xent on features that are not negative', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 11]) {
        const [a, b] = [random([count, 4]).add(0.5), random([count, 4]).add(0.5)];
        for (const activation of ['softplus', 'sigmoid', 'none'] as const) {
          const act = (x: number): number =>
            activation === 'softplus' ? Math.log1p(Math.exp(x)) : activation === 'sigmoid' ? 1 / (1 + Math.exp(-x)) : x;
          const views = [...rowsOf(a), ...rowsOf(b)].map((row) => row.map(act));
          const losses = views.map((row, i) => {
            const scores = views.map((other) => cosine(row, other) / 0.5);
            return Math.log(sumExp(scores.filter((_, j) => j !== i))) - scores[(i + count) % (2 * count)]!;
          });
          assertValue(nonNegativeContrastive(a, b, { activation, temperature: 0.5 }), mean(losses), activation);
        }
      }
      const [a, b] = [random([6, 5]), random([6, 5])];
      const expected = nonNegativeContrastive(a.relu(), b.relu(), { activation: 'none' });
      assertClose(nonNegativeContrastive(a, b), expected);
      assertClose(nonNegativeContrastive(a, b, { activation: 'relu' }), expected);
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b] = [learning([130, 6]), learning([130, 6])];
      assertExecutionsAgree((execution) => nonNegativeContrastive(a, b, { execution }), [a, b]);
      assertGradients(
        (execution, x, y) => nonNegativeContrastive(x!, y!, { execution, activation: 'softplus' }),
        [learning([3, 2]), learning([3, 2])],
      );
      // Features that are all off have no direction, and give no more than that.
      const off = torch.ones([3, 2]).neg().requiresGrad_();
      const [slope] = grad(nonNegativeContrastive(off, off), [off]);
      assert.equal(slope!.isfinite().all().itemSync(), 1);
    });
    assertFinite(
      (temperature, x, y) => nonNegativeContrastive(x!, y!, { temperature }),
      [
        [6, 4],
        [6, 4],
      ],
    );
  });
});

describe('featureStatistics', () => {
  it('counts what is on, and how it goes with labels', () => {
    scope(() => {
      const features = torch.tensor(
        [
          [3, 0, 0, 0],
          [2, 0, 0, 0],
          [0, 1, 0, 0],
          [0, 1, 0, 0],
          [1, 1, 0, 0],
        ],
        { dtype: 'float64' },
      );
      const found = featureStatistics(features, ids([0, 0, 1, 2, 0]));
      assert.equal(found.activeDimensions, 2);
      near(found.sparsity, 1 - 6 / 20);
      near(found.semanticConsistency!, (1 + 1 / 3) / 2);
      // The two columns are (1, 1, 0, 0, √½) and (0, 0, 1, 1, √½): cosine ½ / 2.5, and singular values √3 and √2.
      near(found.orthogonality, (2 * 0.2) / 4);
      const [p, q] = [Math.sqrt(3), Math.sqrt(2)].map((s) => s / (Math.sqrt(3) + Math.sqrt(2)));
      near(found.effectiveRank, -(p! * Math.log(p!) + q! * Math.log(q!)), 1e-5);
      assert.equal(featureStatistics(features).semanticConsistency, undefined);
      assertRefuses(() => featureStatistics(torch.zeros([2, 2])), /all features are 0/);
      assertRefuses(() => nonNegativeContrastive(random([2, 2]), random([3, 2])), /second: expected shape/);
    });
  });

  it('takes a plain batch', () => {
    scope(() => {
      const x: Tensor = random([20, 6], 'float32');
      const { activeDimensions, effectiveRank } = featureStatistics(x);
      assert.equal(activeDimensions, 6);
      assert.ok(effectiveRank > 0 && effectiveRank <= Math.log(6) + 1e-5);
    });
  });
});
