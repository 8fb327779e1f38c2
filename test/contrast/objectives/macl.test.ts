import assert from 'node:assert/strict';
import { dcl } from '../../../src/contrast/objectives/dcl';
import { macl, type MaclOptions } from '../../../src/contrast/objectives/macl';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertRefuses,
  assertValue,
  cosine,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
} from './plain';

function byLoop(first: Tensor, second: Tensor, options: MaclOptions): number {
  const { temperature = 0.1, alpha = 0.5, initialAlignment = 0, adaption, candidates = 'allViews' } = options;
  const [a, b] = [rowsOf(first), rowsOf(second)];
  const gain = mean(a.map((row, i) => cosine(row, b[i]!))) - initialAlignment;
  const t = temperature * (adaption === 'exponential' ? alpha ** gain : 1 + alpha * gain);
  const weighted = (own: number, all: number[]): number => {
    const p = Math.exp(own) / sumExp(all);
    return -Math.log(p) / (1 - p);
  };
  const rows = [...a, ...b];
  const losses = rows.map((row, i) => {
    const pool = candidates === 'allViews' ? rows.filter((_, j) => j !== i) : i < a.length ? b : a;
    const own = rows[(i + a.length) % rows.length]!;
    return weighted(
      cosine(row, own) / t,
      pool.map((x) => cosine(row, x) / t),
    );
  });
  return mean(losses);
}

describe('macl', () => {
  const settings: MaclOptions[] = [
    {},
    { temperature: 0.3, alpha: 1, initialAlignment: 0.2 },
    { alpha: 2, adaption: 'exponential' },
    { candidates: 'otherView', temperature: 0.5 },
  ];

  it('equals a loop', () => {
    scope(() => {
      for (const count of [2, 3, 5, 23]) {
        const a = random([count, 4]);
        const b = a.add(random([count, 4]));
        for (const options of settings) {
          for (const execution of ['dense', 'tiled'] as const) {
            assertValue(macl(a, b, { ...options, execution }), byLoop(a, b, options), 'loss', 1e-9);
          }
        }
      }
    });
  });

  it("is the authors' formula, with a factor that has no gradient", () => {
    scope(() => {
      const a = learning([6, 4]);
      const b = learning([6, 4]);
      const unit = (x: Tensor): Tensor => x.div(x.square().sum([1], true).sqrt());
      const cosines = unit(a).matmul(unit(b).t());
      const t = cosines.diag().mean().detach().mul(0.5).add(1).mul(0.1);
      const scores = cosines.div(t);
      const direction = (x: Tensor): Tensor => {
        const p = x.softmax(1).diag();
        return p.log().neg().mul(p.neg().add(1).reciprocal().detach()).mean();
      };
      const expected = direction(scores).add(direction(scores.t())).div(2);
      for (const execution of ['dense', 'tiled'] as const) {
        const loss = macl(a, b, { candidates: 'otherView', execution });
        assertClose(loss, expected, { atol: 1e-10 });
        grad(loss, [a, b]).forEach((slope, i) => {
          assertClose(slope!, grad(expected, [a, b], { retainGraph: true })[i]!, { atol: 1e-10 });
        });
      }
    });
  });

  it('has the gradient of the decoupled softmax at the adapted temperature', () => {
    scope(() => {
      const [a, b] = [learning([6, 4]), learning([6, 4])];
      const t = mean(rowsOf(a).map((row, i) => cosine(row, rowsOf(b)[i]!))) * 0.05 + 0.1;
      const expected = grad(dcl([a, b], { temperature: t }), [a, b]);
      grad(macl(a, b), [a, b]).forEach((slope, i) => {
        assertClose(slope!, expected[i]!, { atol: 1e-10 });
      });
    });
  });

  it('agrees between dense and tiled, also over several tiles', () => {
    scope(() => {
      const [a, b] = [learning([133, 5]), learning([133, 5])];
      for (const options of settings)
        assertExecutionsAgree((execution) => macl(a, b, { ...options, execution }), [a, b]);
    });
  });

  it('is finite at extreme temperatures, for opposite and for equal views, and 0 for one sample', () => {
    assertFinite(
      (temperature, x, y) => macl(x!, y!, { temperature }),
      [
        [7, 4],
        [7, 4],
      ],
    );
    assertFinite((temperature, x) => macl(x!, x!, { temperature }), [[7, 4]]);
    assertFinite((temperature, x) => macl(x!, x!.neg(), { temperature, alpha: 2 }), [[7, 4]]);
    scope(() => {
      const [a, b] = [learning([1, 3]), learning([1, 3])];
      for (const candidates of ['allViews', 'otherView'] as const) {
        const loss = macl(a, b, { candidates });
        assertValue(loss, 0);
        for (const slope of grad(loss, [a, b])) assert.equal(total(rowsOf(slope!).flat()), 0);
      }
      const apart = torch.eye(4, { dtype: 'float64' });
      assertValue(macl(apart, apart, { temperature: 0.005 }), 1, 'of perfect pairs');
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 2]);
    assertRefuses(() => macl(a, random([4, 2])), /macl: second: expected shape \[3, 2\]/);
    assertRefuses(() => macl(a, a, { temperature: 0 }), /macl: temperature must be a number above 0/);
    assertRefuses(() => macl(a, a, { alpha: 0, adaption: 'exponential' }), /macl: alpha must be a number above 0/);
    assertRefuses(() => macl(a, a, { initialAlignment: 2 }), /initialAlignment must be .* at most 1/);
    assertRefuses(() => macl(a, a, { adaption: 'x' as 'linear' }), /adaption must be/);
    assertRefuses(() => macl(a, a, { candidates: 'x' as 'allViews' }), /candidates must be/);
  });
});
