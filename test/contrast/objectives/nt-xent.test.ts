import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, dot, mean, random, rowsOf, squared, sumExp } from './plain';

const similarities = { cosine, dot, euclidean: (a: number[], b: number[]) => -squared(a, b) };

/** One loss an anchor, view by view. */
function byLoop(views: readonly Tensor[], temperature: number, similarity: keyof typeof similarities): number[] {
  const samples = views.flatMap((view) => rowsOf(view).map((row, sample) => ({ row, sample })));
  return samples.map((anchor) => {
    const others = samples.filter((other) => other !== anchor);
    const score = (other: { row: number[] }): number => similarities[similarity](anchor.row, other.row) / temperature;
    const positives = others.filter(({ sample }) => sample === anchor.sample).map(score);
    return Math.log(sumExp(others.map(score))) - mean(positives);
  });
}

describe('ntXent', () => {
  it('equals a loop over all anchors, for two views and more', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        for (const views of [2, 3]) {
          for (const similarity of ['cosine', 'dot', 'euclidean'] as const) {
            const tensors = Array.from({ length: views }, () => random([count, 4]));
            const expected = byLoop(tensors, 0.6, similarity);
            for (const execution of ['dense', 'tiled'] as const) {
              const options = { temperature: 0.6, similarity, execution };
              const found = ntXent(tensors, { ...options, reduction: 'none' });
              assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
              assertValue(ntXent(tensors, options), mean(expected));
              assertValue(ntXent(tensors, { ...options, reduction: 'sum' }), mean(expected) * expected.length);
            }
          }
        }
      }
      const tensors = [random([3, 2]), random([3, 2])];
      assertValue(ntXent(tensors), mean(byLoop(tensors, 0.5, 'cosine')), 'the default temperature');
    });
  });

  it('is log(2N − 1) where all embeddings are one', () => {
    scope(() => {
      const ones = torch.ones([7, 3], { dtype: 'float64' });
      assertValue(ntXent([ones, ones], { temperature: 0.005 }), Math.log(13));
    });
  });

  it('refuses views that do not fit', () => {
    const a = random([4, 3]);
    assertRefuses(() => ntXent([a]), /ntXent: views must be two tensors or more, found 1/);
    assertRefuses(() => ntXent([a, random([3, 3])]), /ntXent: views\[1\]: expected shape \[4, 3\], found \[3, 3\]/);
    assertRefuses(() => ntXent([random([4]), a]), /ntXent: views\[0\]: expected shape/);
    assertRefuses(() => ntXent([a, a], { temperature: -1 }), /temperature must be a positive number/);
  });
});
