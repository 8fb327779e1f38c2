import assert from 'node:assert/strict';
import { mixTargets, transMixShares } from '../../../src/negatives/mixing';
import { scope, torch } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, ids, random, rowsOf, total } from '../../contrast/objectives/plain';

describe('transMixShares', () => {
  it('equals a loop over patches', () => {
    scope(() => {
      for (const [rows, columns, height, width] of [
        [1, 1, 4, 4],
        [2, 2, 7, 5],
        [3, 2, 9, 8],
      ] as const) {
        const attention = random([3, rows * columns]).abs();
        const box = { top: 1, bottom: height - 1, left: 0, right: 3 };
        const part = ((box.bottom - box.top) * 3) / (height * width);
        const inside = (patch: number): boolean => {
          const [y, x] = [Math.floor(patch / columns), patch % columns];
          const [row, column] = [Math.floor((y * height) / rows), Math.floor((x * width) / columns)];
          return row >= box.top && row < box.bottom && column >= box.left && column < box.right;
        };
        for (const area of [0, 0.5, 1]) {
          const expected = rowsOf(attention).map((row) => {
            const pasted = total(row.filter((_, patch) => inside(patch))) / total(row);
            return 1 - ((1 - area) * pasted + area * part);
          });
          const found = transMixShares(attention, { imageSize: [height, width], box, grid: [rows, columns], area });
          assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
        }
      }
    });
  });

  it('takes a square grid unless told, and refuses what does not fit', () => {
    const box = { top: 0, bottom: 2, left: 0, right: 2 };
    scope(() => {
      const shares = transMixShares(torch.ones([1, 4]), { imageSize: [4, 4], box });
      assert.deepEqual(numbers(shares), [0.75]);
    });
    assertRefuses(() => transMixShares(random([2, 3]), { imageSize: [4, 4], box }), /2 by 2 does not have 3 patches/);
    assertRefuses(
      () => transMixShares(random([2, 4]), { imageSize: [1, 4], box }),
      /box does not lie in an image of 1 by 4/,
    );
  });
});

describe('mixTargets', () => {
  it('mixes rows of probabilities', () => {
    scope(() => {
      const targets = torch.eye(3, { dtype: 'float64' });
      const lambda = torch.tensor([0.25, 1, 0.5], { dtype: 'float64' });
      assert.deepEqual(rowsOf(mixTargets(targets, ids([2, 0, 2]), lambda)), [
        [0.25, 0, 0.75],
        [0, 1, 0],
        [0, 0, 1],
      ]);
    });
  });
});
