import assert from 'node:assert/strict';
import {
  hardContrastive,
  negativeShareEntropy,
  penaltyShares,
  tolerance,
} from '../../../src/contrast/objectives/hardness';
import { InfoNCE } from '../../../src/contrast';
import { scope, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
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
  total,
} from './plain';

const hard = (a: Tensor, b: Tensor, share: number, temperature: number, queue?: Tensor): number => {
  const [x, y, more] = [rowsOf(a), rowsOf(b), queue === undefined ? [] : rowsOf(queue)];
  const losses = x.map((row, i) => {
    const others = [...y.filter((_, j) => j !== i), ...more].map((key) => cosine(row, key)).sort((p, q) => q - p);
    const kept = others.slice(0, Math.max(1, Math.ceil(share * others.length)));
    const own = cosine(row, y[i]!) / temperature;
    return Math.log(Math.exp(own) + sumExp(kept.map((s) => s / temperature))) - own;
  });
  return mean(losses);
};

describe('hardContrastive', () => {
  it('is InfoNCE with the share of negatives that is most alike', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b, queue] = [random([count, 4]), random([count, 4]), random([7, 4])];
        for (const share of [0.05, 0.3, 0.5, 1]) {
          const options = { share, temperature: 0.2 };
          assertValue(hardContrastive(a, b, options), hard(a, b, share, 0.2));
          assertValue(hardContrastive(a, b, { ...options, negatives: queue }), hard(a, b, share, 0.2, queue));
        }
      }
      const [a, b] = [random([9, 3]), random([9, 3])];
      const plain = new InfoNCE({ inBatchNegatives: true }).forward(a, b);
      assertClose(hardContrastive(a, b, { share: 1 }), plain, { atol: 1e-10 });
    });
  });

  it('agrees between dense and tiled, and has right gradients', () => {
    scope(() => {
      const [a, b, queue] = [learning([130, 5]), learning([130, 5]), learning([130, 5])];
      const loss = (execution: 'dense' | 'tiled'): Tensor => hardContrastive(a, b, { negatives: queue, execution });
      assertExecutionsAgree(loss, [a, b, queue]);
      assertGradients(
        (execution, x, y) => hardContrastive(x!, y!, { execution, share: 0.5, temperature: 0.5 }),
        [learning([5, 3]), learning([5, 3])],
      );
      assertFinite(
        (temperature, x, y) => hardContrastive(x!, y!, { temperature }),
        [
          [12, 4],
          [12, 4],
        ],
      );
    });
  });

  it('refuses a share that is none', () => {
    const pair = (): [Tensor, Tensor] => [random([3, 2]), random([3, 2])];
    assertRefuses(
      () => hardContrastive(...pair(), { share: 0 }),
      /share must be a number above 0 and at most 1, found 0/,
    );
    assertRefuses(
      () => hardContrastive(...pair(), { negatives: random([3, 4]) }),
      /negatives: expected shape \[N, 2\]/,
    );
  });
});

describe('measures of hardness', () => {
  it('give the shares of the penalty and their entropy', () => {
    scope(() => {
      for (const count of [2, 3, 5, 17]) {
        for (const temperature of [0.07, 1]) {
          const [a, b] = [random([count, 3]), random([count, 3])];
          const [x, y] = [rowsOf(a), rowsOf(b)];
          const shares = x.map((row, i) => {
            const weights = y.map((key, j) => (i === j ? 0 : Math.exp(cosine(row, key) / temperature)));
            return weights.map((w) => w / total(weights));
          });
          const found = rowsOf(penaltyShares(a, b, { temperature }));
          shares.forEach((row, i) => row.forEach((share, j) => assert.ok(Math.abs(share - found[i]![j]!) < 1e-10)));
          const entropies = shares.map((row) => -total(row.map((r) => (r === 0 ? 0 : r * Math.log(r)))));
          for (const execution of ['dense', 'tiled'] as const) {
            const measured = numbers(negativeShareEntropy(a, b, { temperature, execution }));
            entropies.forEach((entropy, i) => assert.ok(Math.abs(entropy - measured[i]!) < 1e-9));
          }
        }
      }
      assertRefuses(() => penaltyShares(random([1, 2]), random([1, 2])), /one pair holds no negatives/);
      assertRefuses(() => negativeShareEntropy(random([1, 2]), random([1, 2])), /one pair holds no negatives/);
    });
  });

  it('give the mean cosine within a class', () => {
    scope(() => {
      const labels = [0, 1, 0, 2, 1, 0, 0];
      const x = random([7, 3]);
      const rows = rowsOf(x);
      const same = rows.flatMap((a, i) =>
        rows.flatMap((b, j) => (i !== j && labels[i] === labels[j] ? [cosine(a, b)] : [])),
      );
      for (const execution of ['dense', 'tiled'] as const) {
        assertValue(tolerance(x, ids(labels), { execution }), mean(same));
        assertValue(tolerance(x, ids(labels), { execution, over: 'all' }), total(same) / 42);
      }
      assertValue(tolerance(random([3, 2]), ids([0, 1, 2])), 0);
      assertValue(tolerance(random([1, 2]), ids([0])), 0);
      assertRefuses(() => tolerance(x, random([7])), /labels must be int64/);
    });
  });
});
