import assert from 'node:assert/strict';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { supCon } from '../../../src/contrast/objectives/sup-con';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, ids, learning, mean, random, rowsOf, sumExp } from './plain';

/** The losses of the anchors that have a positive, in their places; 0 elsewhere. */
function byLoop(
  embeddings: Tensor,
  labels: readonly number[],
  temperature: number,
  sum: 'outside' | 'inside',
): number[] {
  const rows = rowsOf(embeddings);
  return rows.map((row, i) => {
    const scores = rows.map((other) => cosine(row, other) / temperature);
    const others = scores.filter((_, j) => j !== i);
    const positives = scores.filter((_, j) => j !== i && labels[j] === labels[i]);
    if (positives.length === 0) return 0;
    const all = sumExp(others);
    return sum === 'outside'
      ? -mean(positives.map((s) => Math.log(Math.exp(s) / all)))
      : -Math.log(sumExp(positives) / positives.length / all);
  });
}

describe('supCon', () => {
  for (const sum of ['outside', 'inside'] as const) {
    it(`equals a loop, with the sum ${sum}`, () => {
      scope(() => {
        for (const count of [1, 2, 3, 5, 23]) {
          const embeddings = random([count, 4]);
          // Some labels once, others often.
          const labels = Array.from({ length: count }, (_, i) => Math.floor(Math.sqrt(i)) % 4);
          const expected = byLoop(embeddings, labels, 0.3, sum);
          const having = expected.filter((_, i) => labels.some((label, j) => j !== i && label === labels[i]));
          for (const execution of ['dense', 'tiled'] as const) {
            const options = { temperature: 0.3, sum, execution };
            const each = supCon(embeddings, ids(labels), { ...options, reduction: 'none' });
            assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
            assertValue(supCon(embeddings, ids(labels), options), having.length === 0 ? 0 : mean(having));
          }
        }
      });
    });
  }

  it('is NT-Xent where classes are samples, with either sum', () => {
    scope(() => {
      const views = [random([6, 3]), random([6, 3])];
      const labels = ids([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
      for (const sum of ['outside', 'inside'] as const) {
        assertClose(supCon(torch.cat(views), labels, { temperature: 0.5, sum }), ntXent(views), { atol: 1e-12 });
      }
    });
  });

  it('has the mean of the positives inside the logarithm: equal positives cost what one does', () => {
    scope(() => {
      const embeddings = torch.tensor([[1, 0], [1, 0], [1, 0]], { dtype: 'float64' }); // prettier-ignore
      // −log of the mean of e^s over 2·e^s
      assertValue(supCon(embeddings, ids([0, 0, 0]), { sum: 'inside' }), Math.log(2));
      assertValue(supCon(embeddings, ids([0, 0, 0]), { sum: 'outside' }), Math.log(2));
    });
  });

  it('is 0, with gradients of 0, where no label occurs twice', () => {
    scope(() => {
      for (const sum of ['outside', 'inside'] as const) {
        const embeddings = learning([3, 2]);
        const loss = supCon(embeddings, ids([0, 1, 2]), { sum });
        assert.equal(loss.itemSync(), 0);
        assertClose(grad(loss, [embeddings])[0]!, torch.zeros([3, 2], { dtype: 'float64' }), { atol: 0 });
      }
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 2]);
    assertRefuses(() => supCon(a, ids([0, 1])), /labels: expected shape \[3\], found \[2\]/);
    assertRefuses(() => supCon(a, random([3])), /labels must be int64/);
    assertRefuses(() => supCon(random([3]), ids([0, 1, 2])), /supCon: embeddings: expected shape/);
    assertRefuses(
      () => supCon(a, ids([0, 1, 2]), { sum: 'in' as never }),
      /sum must be 'outside' or 'inside', found 'in'/,
    );
  });
});
