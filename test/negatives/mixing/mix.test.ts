import assert from 'node:assert/strict';
import { areaOutside, boxMask, cutMix, drawBeta, drawBox, mixup } from '../../../src/negatives/mixing';
import { drawAllowed, drawOrder } from '../../../src/negatives/mixing/mix';
import { Generator, grad, scope, torch } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { ids, learning, mean, random, rowsOf } from '../../contrast/objectives/plain';

describe('mix', () => {
  it('draws from the beta distribution', () => {
    scope(() => {
      for (const alpha of [0.2, 1, 1.6, 5]) {
        const drawn = numbers(drawBeta([20_000], alpha, new Generator({ seed: 3 })));
        assert.ok(drawn.every((x) => x >= 0 && x <= 1));
        assert.ok(Math.abs(mean(drawn) - 0.5) < 0.01, `mean at ${alpha}`);
        const variance = mean(drawn.map((x) => (x - 0.5) ** 2));
        assert.ok(Math.abs(variance - 1 / (4 * (2 * alpha + 1))) < 0.003, `variance at ${alpha}: ${variance}`);
      }
      assert.deepEqual(drawBeta([], 2, new Generator({ seed: 1 })).shape, []);
    });
  });

  it('draws orders, and each allowed column as often as another', () => {
    scope(() => {
      const generator = new Generator({ seed: 1 });
      const like = torch.zeros([1]);
      assert.deepEqual(
        numbers(drawOrder(7, generator, like)).sort((a, b) => a - b),
        [0, 1, 2, 3, 4, 5, 6],
      );
      const allowed = torch.tensor([true, false, true, true]).expand([6000, 4]);
      const counts = [0, 0, 0, 0];
      for (const column of numbers(drawAllowed(allowed, generator))) counts[column]! += 1;
      assert.equal(counts[1], 0);
      for (const column of [0, 2, 3]) assert.ok(Math.abs(counts[column]! - 2000) < 150, String(counts));
    });
  });

  it('mixes inputs of any shape, with gradients to both', () => {
    scope(() => {
      const x = learning([3, 2, 2]);
      const mixed = mixup(x, ids([1, 2, 2]), torch.tensor([0.25, 1, 0.5], { dtype: 'float64' }));
      const rows = rowsOf(x.flatten(1));
      const expected = [0, 1, 2].map((i) =>
        rows[i]!.map((v, d) => [0.25, 1, 0.5][i]! * v + [0.75, 0, 0.5][i]! * rows[[1, 2, 2][i]!]![d]!),
      );
      assertClose(mixed.detach().flatten(1), torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-12, rtol: 0 });
      const [slope] = grad(mixed.sum(), x);
      assert.deepEqual(
        rowsOf(slope!.flatten(1)).map((row) => row[0]),
        [0.25, 1.75, 1],
      );
    });
  });

  it('pastes boxes inside the image, of the area that is left', () => {
    scope(() => {
      const generator = new Generator({ seed: 2 });
      for (const lambda of [0, 0.3, 0.75, 1]) {
        for (let trial = 0; trial < 20; trial++) {
          const box = drawBox(5, 8, lambda, generator);
          assert.ok(0 <= box.top && box.top <= box.bottom && box.bottom <= 5);
          assert.ok(0 <= box.left && box.left <= box.right && box.right <= 8);
          assert.ok(areaOutside(box, 5, 8) >= lambda - 1e-12);
          const pasted = numbers(boxMask(box, 5, 8, torch.zeros([1])));
          assert.equal(areaOutside(box, 5, 8), 1 - pasted.filter((x) => x === 1).length / 40);
        }
      }
      const x = random([2, 1, 3, 4]);
      const mixed = cutMix(x, ids([1, 1]), { top: 1, bottom: 3, left: 0, right: 2 });
      const [own, other] = rowsOf(x.flatten(1));
      const expected = own!.map((v, at) => (Math.floor(at / 4) >= 1 && at % 4 < 2 ? other![at]! : v));
      assert.deepEqual(numbers(mixed.select(0, 0)), expected);
      assert.deepEqual(numbers(mixed.select(0, 1)), other);
    });
  });
});
