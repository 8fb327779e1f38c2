import assert from 'node:assert/strict';
import { LogitScale } from '../../../src/contrast/logit-scale';
import { clip } from '../../../src/contrast/objectives/clip';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, sumExp } from './plain';

function byLoop(first: Tensor, second: Tensor, temperature: number): number[] {
  const [a, b] = [rowsOf(first), rowsOf(second)];
  const score = (i: number, j: number): number => cosine(a[i]!, b[j]!) / temperature;
  return a.map((_, i) => {
    const row = Math.log(sumExp(b.map((_, j) => score(i, j))));
    const column = Math.log(sumExp(a.map((_, j) => score(j, i))));
    return (row + column) / 2 - score(i, i);
  });
}

describe('clip', () => {
  it('equals a loop over both directions', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        const expected = byLoop(a, b, 0.07);
        for (const execution of ['dense', 'tiled'] as const) {
          assertValue(clip(a, b, { execution }), mean(expected));
          const each = clip(a, b, { execution, reduction: 'none' });
          assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
        }
      }
    });
  });

  it('is the mean of the cross-entropies of rows and columns', () => {
    scope(() => {
      const [a, b] = [random([130, 8]), random([130, 8])];
      const unit = (x: Tensor): Tensor => x.div(x.square().sum([1], true).sqrt());
      const scores = unit(a).matmul(unit(b).t()).div(0.07);
      const labels = torch.arange(130, { dtype: 'int64' });
      const expected = torch.crossEntropyLoss(scores, labels).add(torch.crossEntropyLoss(scores.t(), labels)).div(2);
      for (const execution of ['dense', 'tiled'] as const) {
        assertClose(clip(a, b, { execution }), expected, { atol: 1e-12, rtol: 1e-12 });
      }
    });
  });

  it('is LiT with one side frozen: the other alone has a gradient, and the same one', () => {
    scope(() => {
      const [a, b] = [learning([5, 3]), learning([5, 3])];
      clip(a, b).backward();
      const [wholeA, wholeB] = [a.grad!.clone(), b.grad!.clone()];
      a.grad = null;
      b.grad = null;
      clip(a, b, { frozen: 'first' }).backward();
      assert.equal(a.grad, null);
      assertClose(b.grad!, wholeB, { atol: 1e-14 });
      b.grad = null;
      clip(a, b, { frozen: 'second' }).backward();
      assert.equal(b.grad, null);
      assertClose(a.grad!, wholeA, { atol: 1e-14 });
    });
  });

  it('takes a temperature that learns', () => {
    scope(() => {
      const scale = new LogitScale({ dtype: 'float64' });
      const [a, b] = [random([5, 3]), random([5, 3])];
      const loss = clip(a, b, { temperature: scale.temperature() });
      assertValue(loss, mean(byLoop(a, b, 0.07)));
      loss.backward();
      assert.notEqual(scale.logitScale.grad!.itemSync(), 0);
      scale.dispose();
    });
  });

  it('refuses what does not fit', () => {
    const a = random([4, 3]);
    assertRefuses(() => clip(a, random([3, 3])), /clip: second: expected shape \[4, 3\], found \[3, 3\]/);
    assertRefuses(() => clip(a, a, { temperature: 0 }), /clip: temperature must be a number above 0/);
    assertRefuses(
      () => clip(a, a, { temperature: random([4]) }),
      /clip: temperature must be a number or a tensor of one/,
    );
  });
});
