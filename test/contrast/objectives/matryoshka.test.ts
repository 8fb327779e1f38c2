import assert from 'node:assert/strict';
import { clip } from '../../../src/contrast/objectives/clip';
import { matryoshka } from '../../../src/contrast/objectives/matryoshka';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { gradcheck, scope, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, learning, random, rowsOf, squared, total, unit } from './plain';

describe('matryoshka', () => {
  it('is the weighted sum of the objective of prefixes', () => {
    scope(() => {
      const [a, b] = [random([5, 6]), random([5, 6])];
      const whole = matryoshka([a, b], ([x, y]) => clip(x, y), { dimensions: [6, 3, 2], weights: [1, 0.5, 2] });
      const cut = (x: Tensor, m: number): Tensor => x.narrow(1, 0, m);
      const expected = clip(a, b)
        .add(clip(cut(a, 3), cut(b, 3)).mul(0.5))
        .add(clip(cut(a, 2), cut(b, 2)).mul(2));
      assertClose(whole, expected, { atol: 1e-12 });
      const each = matryoshka([a, b], (views) => ntXent(views, { reduction: 'none' }), { dimensions: [6, 1] });
      assert.deepEqual([...each.shape], [10]);
    });
  });

  it('scales prefixes to length one unless told not to, and tells their dimension', () => {
    scope(() => {
      const x = random([3, 4]);
      const from = (rows: number[][], m: number): number =>
        total(rows.map((row) => squared(row, Array(m).fill(2) as number[])));
      const seen: number[] = [];
      const objective = ([prefix]: readonly [Tensor], dimension: number): Tensor => {
        seen.push(dimension);
        return prefix.sub(2).square().sum();
      };
      const rows = [4, 2].map((m) => rowsOf(x).map((row) => row.slice(0, m)));
      const scaled = matryoshka([x] as const, objective, { dimensions: [4, 2] });
      assertValue(scaled, from(rows[0]!.map(unit), 4) + from(rows[1]!.map(unit), 2));
      const plain = matryoshka([x] as const, objective, { dimensions: [4, 2], normalize: false });
      assertValue(plain, from(rows[0]!, 4) + from(rows[1]!, 2));
      assert.deepEqual(seen, [4, 2, 4, 2]);
    });
  });

  it('cuts tokens along their last dimension, and has right gradients', () => {
    scope(() => {
      gradcheck(
        (tokens) => matryoshka([tokens!], ([x]) => x.pow(3).sum(), { dimensions: [3, 1], normalize: false }),
        [learning([2, 2, 3])],
      );
    });
  });

  it('refuses what does not fit', () => {
    const x = random([3, 4]);
    const of = (dimensions: number[], weights?: number[]): Tensor =>
      matryoshka([x], ([y]) => y.sum(), { dimensions, ...(weights && { weights }) });
    assertRefuses(() => of([]), /matryoshka: dimensions: there are none/);
    assertRefuses(() => of([4, 5]), /whole numbers from 1 to 4, as long as embeddings\[0\], found 5/);
    assertRefuses(() => of([1.5]), /found 1.5/);
    assertRefuses(() => of([0]), /found 0/);
    assertRefuses(() => of([2], [1, 1]), /weights: expected one a dimension, 1, found 2/);
    assertRefuses(() => of([2], [-1]), /weights\[0\] must be a number at least 0/);
    assertRefuses(() => matryoshka([], () => x.sum(), { dimensions: [1] }), /there are no embeddings/);
  });
});
