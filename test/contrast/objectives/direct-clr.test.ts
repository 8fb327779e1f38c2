import { directClr } from '../../../src/contrast/objectives/direct-clr';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, mean, random, rowsOf, sumExp } from './plain';

function byLoop(first: Tensor, second: Tensor, d0: number, t: number): number[] {
  const [a, b] = [first, second].map((x) => rowsOf(x).map((row) => row.slice(0, d0))) as [number[][], number[][]];
  return a.map((row, i) => {
    const rows = Math.log(sumExp(b.map((other) => cosine(row, other) / t)));
    const columns = Math.log(sumExp(a.map((other) => cosine(other, b[i]!) / t)));
    return (rows + columns) / 2 - cosine(row, b[i]!) / t;
  });
}

function amongAll(first: Tensor, second: Tensor, d0: number, t: number): number {
  const rows = [...rowsOf(first), ...rowsOf(second)].map((row) => row.slice(0, d0));
  const count = rows.length / 2;
  return mean(
    rows.map((row, i) => {
      const others = rows.filter((_, j) => j !== i);
      return (
        Math.log(sumExp(others.map((x) => cosine(row, x) / t))) - cosine(row, rows[(i + count) % (2 * count)]!) / t
      );
    }),
  );
}

describe('directClr', () => {
  it('equals loops over the first components', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b] = [random([count, 6]), random([count, 6])];
        for (const execution of ['dense', 'tiled'] as const) {
          const expected = byLoop(a, b, 4, 0.1);
          assertValue(directClr(a, b, { dimensions: 4, execution }), mean(expected));
          const each = directClr(a, b, { dimensions: 4, execution, reduction: 'none' });
          assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
          const all = directClr(a, b, { dimensions: 3, temperature: 0.5, candidates: 'allViews', execution });
          assertValue(all, amongAll(a, b, 3, 0.5));
        }
      }
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 4]);
    for (const dimensions of [0, 5, 1.5, NaN]) {
      assertRefuses(() => directClr(a, a, { dimensions }), /dimensions must be a whole number from 1 to 4, found/);
    }
    assertRefuses(() => directClr(a, a, { dimensions: 2, candidates: 'x' as 'allViews' }), /candidates must be/);
    assertRefuses(() => directClr(a, random([2, 4]), { dimensions: 2 }), /second: expected shape \[3, 4\]/);
  });
});
