import { socialNce } from '../../../src/contrast/objectives/social-nce';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, sumExp, total } from './plain';

function byLoop(motions: Tensor, positives: Tensor, negatives: Tensor, t: number, valid?: boolean[][]): number[] {
  const [own, others] = [positives, negatives].map((x) => rowsOf(x.flatten(0, 1))) as [number[][], number[][]];
  return rowsOf(motions).map((row, i) => {
    const of = (rows: number[][], each: number): number[] =>
      rows.slice(i * each, (i + 1) * each).map((x) => cosine(row, x) / t);
    const scores = of(others, negatives.sizeOf(1)).filter((_, k) => valid?.[i]![k] ?? true);
    return mean(of(own, positives.sizeOf(1)).map((s) => Math.log(sumExp([s, ...scores])) - s));
  });
}

describe('socialNce', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 11]) {
        const [m, p, n] = [random([count, 4]), random([count, 3, 4]), random([count, 5, 4])];
        assertValue(socialNce(m, p, n), mean(byLoop(m, p, n, 0.07)));
        const single = p.select(1, 0);
        assertValue(socialNce(m, single, n, { temperature: 0.2 }), mean(byLoop(m, single.unsqueeze(1), n, 0.2)));
        const each = socialNce(m, p, n, { reduction: 'none' });
        assertClose(each, torch.tensor(byLoop(m, p, n, 0.07), { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
      }
    });
  });

  it('leaves out negatives that there are not, and scenes without any from the mean', () => {
    scope(() => {
      const [m, p, n] = [learning([3, 4]), learning([3, 2, 4]), learning([3, 2, 4])];
      const valid = [
        [true, false],
        [false, false],
        [true, true],
      ];
      const loss = socialNce(m, p, n, { valid: torch.tensor(valid), temperature: 0.3 });
      assertValue(loss, total(byLoop(m, p, n, 0.3, valid)) / 2);
      for (const slope of grad(loss, [m, p, n])) assertValue(slope!.isfinite().all().to('float64'), 1);
      assertValue(socialNce(m, p, n, { valid: torch.zeros([3, 2], { dtype: 'bool' }) }), 0);
    });
  });

  it('refuses what does not fit', () => {
    const [m, p, n] = [random([3, 4]), random([3, 4]), random([3, 2, 4])];
    assertRefuses(() => socialNce(m, random([2, 4]), n), /positives: expected floating-point \[3, P, 4\]/);
    assertRefuses(() => socialNce(m, p, p), /negatives: expected floating-point \[3, K, 4\]/);
    assertRefuses(() => socialNce(m, p, n, { valid: torch.ones([3, 2]) }), /valid must be bool/);
    assertRefuses(() => socialNce(m, p, n, { temperature: 0 }), /temperature must be a number above 0/);
  });
});
