import { LogitScale } from '../../../src/contrast/logit-scale';
import { siglip } from '../../../src/contrast/objectives/siglip';
import assert from 'node:assert/strict';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, total } from './plain';

function byLoop(first: Tensor, second: Tensor, temperature: number, bias: number): number[] {
  const [a, b] = [rowsOf(first), rowsOf(second)];
  return a.map((x, i) =>
    total(
      b.map((y, j) => {
        const logit = cosine(x, y) / temperature + bias;
        return Math.log1p(Math.exp(i === j ? -logit : logit));
      }),
    ),
  );
}

describe('siglip', () => {
  it('equals a loop over all pairs, divided by the batch', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        for (const execution of ['dense', 'tiled'] as const) {
          assertValue(siglip(a, b, { execution }), mean(byLoop(a, b, 0.1, -10)), 'by default');
          const options = { execution, temperature: 0.4, bias: 1.5 };
          const expected = byLoop(a, b, 0.4, 1.5);
          assertValue(siglip(a, b, options), mean(expected));
          const each = siglip(a, b, { ...options, reduction: 'none' });
          assertClose(each, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
        }
      }
    });
  });

  it('is softplus(0) for every pair where logits are 0', () => {
    scope(() => {
      const [a, b] = [torch.tensor([[1, 0], [1, 0]]), torch.tensor([[0, 1], [0, 1]])]; // prettier-ignore
      assertValue(siglip(a, b, { bias: 0 }), 2 * Math.log(2), 'loss', 1e-6);
    });
  });

  it('learns scale and bias, and leaves the frozen side alone', () => {
    scope(() => {
      const scale = new LogitScale({ temperature: 0.1, bias: -10, dtype: 'float64' });
      const [a, b] = [learning([5, 3]), learning([5, 3])];
      const options = { temperature: scale.temperature(), bias: scale.bias(), frozen: 'first' } as const;
      const loss = siglip(a, b, options);
      assertValue(loss, mean(byLoop(a, b, 0.1, -10)));
      loss.backward();
      assert.ok(Math.abs(scale.logitScale.grad!.itemSync()) > 0);
      assert.ok(Math.abs(scale.logitBias!.grad!.itemSync()) > 0);
      assert.equal(a.grad, null);
      assert.ok(b.grad !== null);
      scale.dispose();
    });
  });

  it('refuses what does not fit', () => {
    const a = random([4, 3]);
    assertRefuses(() => siglip(a, random([4, 2])), /siglip: second: expected shape \[4, 3\]/);
    assertRefuses(() => siglip(a, a, { bias: NaN }), /siglip: bias must be a finite number or a tensor of one element/);
    assertRefuses(() => siglip(a, a, { bias: random([2]) }), /siglip: bias must be/);
    assertRefuses(() => siglip(a, a, { temperature: Infinity }), /siglip: temperature must be a number/);
  });
});
