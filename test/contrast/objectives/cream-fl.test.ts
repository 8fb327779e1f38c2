import assert from 'node:assert/strict';
import { creamFl, creamFlInter, creamFlIntra } from '../../../src/contrast/objectives/cream-fl';
import { grad, scope, torch } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertGradients,
  assertRefuses,
  assertValue,
  dot,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

describe('creamFl', () => {
  it('equals loops over both contrasts', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [z, same, other, previous] = [random([count, 4]), random([15, 4]), random([15, 4]), random([count, 4])];
        const rows = Array.from({ length: count }, (_, i) => (7 * i + 3) % 15);
        const positions = ids(rows);
        const inter = rowsOf(z).map((row, i) => {
          const scores = rowsOf(other).map((g) => dot(row, g) / 0.5);
          return Math.log(sumExp(scores)) - scores[rows[i]!]!;
        });
        const globals = rows.map((row) => rowsOf(same)[row]!);
        const intra = rowsOf(z).map((row, i) => {
          const [own, old] = [dot(row, globals[i]!) / 0.5, dot(row, rowsOf(previous)[i]!) / 0.5];
          return Math.log(sumExp([own, old])) - own;
        });
        for (const execution of ['dense', 'tiled'] as const) {
          assertValue(creamFlInter(z, other, positions, { execution }), mean(inter));
          assertValue(creamFlIntra(z, same.indexSelect(0, positions), previous, { execution }), mean(intra));
          const batch = { embeddings: z, same, other, previous, positions };
          assertValue(creamFl(batch, { execution }), (mean(inter) + mean(intra)) / 2);
          const each = creamFl(batch, { execution, weight: 1, reduction: 'none' });
          const expected = torch.tensor(
            inter.map((x, i) => x + intra[i]!),
            { dtype: 'float64' },
          );
          assertClose(each, expected, { atol: 1e-10, rtol: 1e-10 });
        }
      }
    });
  });

  it('has a gradient for the client alone, the same in both executions', () => {
    scope(() => {
      const [z, other, previous] = [learning([131, 4]), learning([300, 4]), learning([131, 4])];
      const positions = torch.arange(131, { dtype: 'int64' });
      assertExecutionsAgree((execution) => creamFlInter(z, other, positions, { execution }), [z]);
      const loss = creamFl({ embeddings: z, same: other, other, previous, positions });
      assert.deepEqual(
        grad(loss, [z, other, previous], { allowUnused: true }).map((slope) => slope !== null),
        [true, false, false],
      );
      const [globals, old] = [random([3, 2]), random([3, 2])];
      assertGradients((execution, x) => creamFlIntra(x!, globals, old, { execution }), [learning([3, 2])]);
    });
  });

  it('refuses what does not fit', () => {
    const [z, g] = [random([2, 3]), random([4, 3])];
    const batch = { embeddings: z, same: g, other: g, previous: z, positions: ids([0, 1]) };
    assertRefuses(() => creamFl({ ...batch, positions: ids([0, 4]) }), /positions must be from 0 to 3, found 0 to 4/);
    assertRefuses(() => creamFl({ ...batch, other: random([3, 3]) }), /creamFl: other: expected shape \[4, 3\]/);
    assertRefuses(() => creamFl(batch, { weight: -1 }), /creamFl: weight must be/);
    assertRefuses(() => creamFlInter(z, g, ids([0])), /creamFlInter: positions: expected shape \[2\]/);
    assertRefuses(() => creamFlIntra(z, g, z), /creamFlIntra: globals: expected shape \[2, 3\]/);
  });
});
