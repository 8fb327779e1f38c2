import assert from 'node:assert/strict';
import { dualViewMoCo } from '../../../src/contrast/objectives/dual-view-moco';
import { contrast } from '../../../src/contrast';
import { grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
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

function byLoop(q: Tensor, k: Tensor, queue: Tensor, t: number, weight: number, hardest: number): number[] {
  const bank = rowsOf(queue);
  const direction = (anchor: number[], positive: number[]): number => {
    const negatives = bank
      .map((entry) => cosine(anchor, entry))
      .sort((a, b) => b - a)
      .slice(0, hardest);
    const own = cosine(anchor, positive);
    return Math.log(sumExp([own, ...negatives].map((s) => s / t))) - own / t;
  };
  const keys = rowsOf(k);
  return rowsOf(q).map((row, i) => weight * direction(row, keys[i]!) + (1 - weight) * direction(keys[i]!, row));
}

describe('dualViewMoCo', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5]) {
        for (const size of [1, 4, 17]) {
          const [q, k, queue] = [random([count, 4]), random([count, 4]), random([size, 4])];
          for (const hardest of [undefined, 1, 3, 40]) {
            for (const weight of [0, 0.3, 1]) {
              const expected = byLoop(q, k, queue, 0.3, weight, hardest ?? Infinity);
              for (const execution of ['dense', 'tiled'] as const) {
                const options = { hardest, weight, temperature: 0.3, execution };
                assertValue(dualViewMoCo(q, k, queue, options), mean(expected));
                const each = dualViewMoCo(q, k, queue, { ...options, reduction: 'none' });
                assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
              }
            }
          }
        }
      }
    });
  });

  it('is the loss of MoCo with one direction and all negatives', () => {
    scope(() => {
      const [anchors, positives, embeddings] = [random([5, 3]), random([5, 3]), random([9, 3])];
      const plain = contrast({ anchors, positives, candidates: { embeddings } });
      assertClose(dualViewMoCo(anchors, positives, embeddings, { weight: 1 }), plain, { atol: 1e-12 });
    });
  });

  it('has the gradients of finite differences, for queries in both directions and nothing else', () => {
    scope(() => {
      const [q, k, queue] = [learning([3, 4]), learning([3, 4]), learning([7, 4])];
      const t = torch.tensor(0.4, { dtype: 'float64' }).requiresGrad_();
      for (const weight of [0, 0.5]) {
        for (const hardest of [3, 7]) {
          const loss = (x: Tensor, temperature: Tensor) => dualViewMoCo(x, k, queue, { weight, hardest, temperature });
          gradcheck(loss, [q, t]);
          assertExecutionsAgree((execution) => dualViewMoCo(q, k, queue, { weight, hardest, execution }), [q]);
          const slopes = grad(loss(q, t), [k, queue], { allowUnused: true });
          assert.deepEqual(slopes, [null, null]);
        }
      }
    });
  });

  it('is a number at any temperature', () => {
    assertFinite(
      (temperature, q, k, queue) => dualViewMoCo(q!, k!, queue!, { temperature, hardest: 2 }),
      [
        [4, 3],
        [4, 3],
        [6, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const [q, k, queue] = [random([3, 4]), random([3, 4]), random([7, 4])];
    assertRefuses(() => dualViewMoCo(q, random([2, 4]), queue), /dualViewMoCo: keys: expected shape \[3, 4\]/);
    assertRefuses(() => dualViewMoCo(q, k, random([7, 3])), /queue: expected shape \[N, 4\]/);
    assertRefuses(() => dualViewMoCo(q, k, queue, { weight: 1.1 }), /weight must be a number at least 0 and at most 1/);
    assertRefuses(() => dualViewMoCo(q, k, queue, { hardest: 0 }), /hardest must be an integer of at least 1/);
    assertRefuses(() => dualViewMoCo(q, k, queue, { temperature: 0 }), /temperature must be a number above 0/);
  });
});
