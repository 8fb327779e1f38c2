import { hardnessWeighted, type HardnessWeightedOptions } from '../../../src/contrast/objectives/hardness-weighted';
import { multipleNegatives } from '../../../src/contrast/objectives/multiple-negatives';
import { autocast, grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
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

const settings = [
  {},
  { weighted: 'all', strength: 5 },
  { weighted: 'hardNegatives', strength: 3 },
  { weighted: 'inBatch', strength: 2, temperature: 0.3 },
] as const satisfies HardnessWeightedOptions[];

/** `negatives` are [N·K, D]. */
function byLoop(
  anchors: Tensor,
  positives: Tensor,
  negatives: Tensor | null,
  options: HardnessWeightedOptions,
): number[] {
  const { weighted = 'inBatch', strength = 9, temperature = 0.05 } = options;
  const t = temperature as number;
  const [a, p, hard] = [rowsOf(anchors), rowsOf(positives), negatives === null ? [] : rowsOf(negatives)];
  const each = hard.length / a.length;
  const score = (x: number[], y: number[], isWeighted: boolean): number =>
    cosine(x, y) / t + (isWeighted ? strength * cosine(x, y) : 0);
  return a.map((row, i) => {
    const others = weighted !== 'hardNegatives';
    const own = weighted !== 'inBatch';
    const scores = [
      ...p.map((x, j) => score(row, x, others && j !== i)),
      ...hard.map((x, k) => score(row, x, Math.floor(k / each) === i ? own : others)),
    ];
    return Math.log(sumExp(scores)) - score(row, p[i]!, false);
  });
}

describe('hardnessWeighted', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 17]) {
        const [a, p, hard] = [random([count, 4]), random([count, 4]), random([count, 2, 4])];
        for (const options of settings) {
          for (const execution of ['dense', 'tiled'] as const) {
            assertValue(hardnessWeighted(a, p, { ...options, execution }), mean(byLoop(a, p, null, options)));
            const each = hardnessWeighted(a, p, { ...options, execution, negatives: hard, reduction: 'none' });
            const expected = torch.tensor(byLoop(a, p, hard.flatten(0, 1), options), { dtype: 'float64' });
            assertClose(each, expected, { atol: 1e-10, rtol: 1e-10 });
          }
        }
      }
    });
  });

  it('has gradients in which weights are constants', () => {
    scope(() => {
      const [a, p] = [learning([6, 4]), learning([6, 4])];
      const unit = (x: Tensor): Tensor => x.div(x.square().sum([1], true).sqrt());
      const cosines = unit(a).matmul(unit(p).t());
      const weights = cosines
        .detach()
        .mul(torch.ones([6, 6], { dtype: 'float64' }).fillDiagonal_(0))
        .mul(9);
      const scores = cosines.div(0.05).add(weights);
      const labels = torch.arange(6, { dtype: 'int64' });
      const expected = grad(torch.crossEntropyLoss(scores, labels), [a, p]);
      for (const execution of ['dense', 'tiled'] as const) {
        grad(hardnessWeighted(a, p, { execution }), [a, p]).forEach((slope, i) => {
          assertClose(slope!, expected[i]!, { atol: 1e-10 });
        });
      }
    });
  });

  it('is the plain in-batch softmax with a strength of 0, and leaves out what ids say', () => {
    scope(() => {
      const [a, p, negatives] = [random([6, 4]), random([6, 4]), random([6, 2, 4])];
      const same = ids([0, 1, 0, 3, 4, 4]);
      for (const weighted of ['inBatch', 'hardNegatives', 'all'] as const) {
        const loss = hardnessWeighted(a, p, { negatives, weighted, strength: 0 });
        assertClose(loss, multipleNegatives(a, p, { negatives }), { atol: 1e-12 });
      }
      // Pairs of one id see each other's hard negatives as little as each other's positives.
      const loss = hardnessWeighted(a, p, { strength: 0, ids: same });
      assertClose(loss, multipleNegatives(a, p, { ids: same }), { atol: 1e-12 });
    });
  });

  it('agrees between dense and tiled over several tiles', () => {
    scope(() => {
      const [a, p, hard] = [learning([130, 5]), learning([130, 5]), learning([130, 2, 5])];
      const temperature = torch.tensor(0.1, { dtype: 'float64' }).requiresGrad_();
      for (const options of settings) {
        assertExecutionsAgree(
          (execution) => hardnessWeighted(a, p, { ...options, negatives: hard, temperature, execution }),
          [a, p, hard, temperature],
        );
      }
    });
  });

  it('is finite at extreme temperatures, in short types too', () => {
    assertFinite(
      (temperature, a, p, negatives) => hardnessWeighted(a!, p!, { negatives, weighted: 'all', temperature }),
      [
        [5, 4],
        [5, 4],
        [5, 2, 4],
      ],
    );
    scope(() => {
      const [a, p] = [random([5, 4]).to('bfloat16'), random([5, 4]).to('bfloat16')];
      const loss = autocast({ device: 'cpu' }, () => hardnessWeighted(a, p));
      assertClose(loss, hardnessWeighted(a.to('float32'), p.to('float32')), { rtol: 1e-5 });
      assertValue(hardnessWeighted(random([1, 3]), random([1, 3])), 0);
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 4]);
    assertRefuses(() => hardnessWeighted(a, random([2, 4])), /positives: expected shape \[3, 4\]/);
    assertRefuses(() => hardnessWeighted(a, a, { strength: -1 }), /strength must be a number at least 0/);
    assertRefuses(() => hardnessWeighted(a, a, { weighted: 'x' as 'all' }), /weighted must be 'inBatch'/);
    assertRefuses(
      () => hardnessWeighted(a, a, { negatives: random([2, 2, 4]) }),
      /expected floating-point \[3, K, 4\]/,
    );
    assertRefuses(() => hardnessWeighted(a, a, { ids: ids([1, 2]) }), /ids: expected shape \[3\]/);
  });
});
