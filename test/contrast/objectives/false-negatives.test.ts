import assert from 'node:assert/strict';
import {
  falseNegativeAttraction,
  falseNegativeElimination,
  type FalseNegativeOptions,
} from '../../../src/contrast/objectives/false-negatives';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
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
} from './plain';

type Kind = 'elimination' | 'attraction';
const objectives = { elimination: falseNegativeElimination, attraction: falseNegativeAttraction };

function byLoop(kind: Kind, views: Tensor[], options: FalseNegativeOptions): number[] {
  const { threshold = 0.7, topK = 10, aggregation = 'max', support = views } = options;
  const t = 0.1;
  const all = views.flatMap(rowsOf);
  const supports = support.map(rowsOf);
  const count = all.length / views.length;
  const falseOnes = Array.from({ length: count }, (_, i) => {
    const scored = all
      .map((row, j) => {
        const scores = supports.map((rows) => cosine(rows[i]!, row));
        return { j, score: aggregation === 'max' ? Math.max(...scores) : mean(scores) };
      })
      .filter(({ j }) => j % count !== i)
      .sort((a, b) => b.score - a.score);
    return scored
      .slice(0, topK)
      .filter(({ score }) => score > threshold)
      .map(({ j }) => j);
  });
  return all.map((row, a) => {
    const found = falseOnes[a % count]!;
    const score = (j: number): number => cosine(row, all[j]!) / t;
    const others = all.map((_, j) => j).filter((j) => j !== a);
    const own = others.filter((j) => j % count === a % count);
    const pool = kind === 'elimination' ? others.filter((j) => !found.includes(j)) : others;
    const positives = kind === 'elimination' ? own : [...own, ...found];
    return Math.log(sumExp(pool.map(score))) - mean(positives.map(score));
  });
}

for (const kind of ['elimination', 'attraction'] as const) {
  const objective = objectives[kind];
  describe(`false negative ${kind}`, () => {
    const settings = (count: number): FalseNegativeOptions[] => [
      {},
      { threshold: 0, topK: 2 },
      { threshold: -1, topK: 3, aggregation: 'mean' },
      { threshold: 0.2, support: [random([count, 4])] },
      { threshold: 0.1, topK: 4, support: [random([count, 4]), random([count, 4])] },
    ];

    it('equals a loop', () => {
      scope(() => {
        for (const count of [1, 2, 3, 5, 13]) {
          for (const several of [2, 3]) {
            const views = Array.from({ length: several }, () => random([count, 4]));
            for (const options of settings(count)) {
              const expected = torch.tensor(byLoop(kind, views, options), { dtype: 'float64' });
              for (const execution of ['dense', 'tiled'] as const) {
                const each = objective(views, { ...options, execution, reduction: 'none' });
                assertClose(each, expected, { atol: 1e-10, rtol: 1e-10 });
              }
              assertClose(objective(views, options), expected.mean(), { atol: 1e-10, rtol: 1e-10 });
            }
          }
        }
      });
    });

    it('is NT-Xent where nothing is found', () => {
      scope(() => {
        const views = [random([7, 4]), random([7, 4])];
        const expected = ntXent(views, { temperature: 0.1 });
        assertClose(objective(views, { threshold: 1 }), expected, { atol: 1e-12 });
        assertClose(objective(views, { threshold: 1, support: [random([7, 4])] }), expected, { atol: 1e-12 });
      });
    });

    it('agrees between dense and tiled over several tiles, with right gradients', () => {
      scope(() => {
        const [a, b, support] = [learning([131, 5]), learning([131, 5]), random([131, 5])];
        for (const options of [{ support: [support] }, { aggregation: 'mean', threshold: 0.3 }] as const) {
          assertExecutionsAgree((execution) => objective([a, b], { ...options, execution }), [a, b]);
        }
        gradcheck((...views) => objective(views, { topK: 2, threshold: 0 }), [learning([4, 3]), learning([4, 3])]);
      });
    });

    it('is finite at extreme temperatures, and with all negatives found', () => {
      for (const options of [
        {},
        { threshold: -1, topK: 100 },
        { threshold: -1, topK: 100, aggregation: 'mean' },
      ] as const) {
        assertFinite(
          (temperature, ...views) => objective(views, { ...options, temperature }),
          [
            [6, 4],
            [6, 4],
          ],
        );
      }
      scope(() => {
        const views = [random([5, 4]), random([5, 4])];
        if (kind === 'elimination') {
          for (const aggregation of ['max', 'mean'] as const) {
            assertValue(objective(views, { threshold: -1, topK: 100, aggregation }), 0);
          }
        }
      });
    });

    it('refuses what does not fit', () => {
      const a = random([3, 4]);
      assertRefuses(() => objective([a]), /views must be two tensors or more/);
      assertRefuses(() => objective([a, a], { support: [] }), /support must hold a view or more/);
      assertRefuses(() => objective([a, a], { support: [random([2, 4])] }), /support\[0\]: expected shape \[3, 4\]/);
      assertRefuses(() => objective([a, a], { topK: 0 }), /topK must be a whole number from 1, found 0/);
      assertRefuses(() => objective([a, a], { threshold: 2 }), /threshold must be a number at least -1 and at most 1/);
      assertRefuses(() => objective([a, a], { aggregation: 'x' as 'max' }), /aggregation must be 'max' or 'mean'/);
      assertRefuses(() => objective([a, a], { temperature: 0 }), /temperature must be a number above 0/);
    });
  });
}

it('attraction pulls at what was found, elimination does not push it', () => {
  scope(() => {
    // Samples 0 and 1 are alike, sample 2 is not.
    const x = torch.tensor([1, 0, 0.9, 0.1, 0, 1], { dtype: 'float64' }).reshape([3, 2]);
    const support = [x];
    const slope = (kind: Kind): number[] => {
      const views = [x.clone().requiresGrad_(), x.clone()];
      objectives[kind](views, { support, temperature: 1, reduction: 'none' }).narrow(0, 0, 1).sum().backward();
      return rowsOf(views[0]!.grad!)[1]!;
    };
    assert.deepEqual(slope('elimination'), [0, 0]);
    // Against the gradient, the likeness with sample 0 grows.
    assert.ok(slope('attraction')[1]! > 0);
  });
});
