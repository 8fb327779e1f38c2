import assert from 'node:assert/strict';
import { LogitScale } from '../../src/contrast/logit-scale';
import { SGD } from '../../src/optim';
import { InvalidArgumentError, noGrad, scope, torch } from '../../src/torch';
import { assertClose } from '../support/close';

describe('LogitScale', () => {
  it('starts from the temperature and bias given', () => {
    scope(() => {
      const plain = new LogitScale();
      assert.ok(Math.abs(plain.temperature().itemSync() - 0.07) < 1e-7);
      assert.equal(plain.bias(), undefined);
      assert.deepEqual([...plain.stateDict().keys()], ['logit_scale']);
      assert.deepEqual([...plain.logitScale.shape], []);
      const sigmoid = new LogitScale({ temperature: 0.1, bias: -10, dtype: 'float64' });
      assert.deepEqual([...sigmoid.stateDict().keys()], ['logit_scale', 'logit_bias']);
      assert.equal(sigmoid.bias()!.itemSync(), -10);
      const logits = sigmoid.forward(torch.tensor([0.5, -1], { dtype: 'float64' }));
      assertClose(logits, torch.tensor([-5, -20], { dtype: 'float64' }), { atol: 1e-12 });
      plain.dispose();
      sigmoid.dispose();
    });
  });

  it('never gives a scale above the maximum, and comes back from it', () => {
    scope(() => {
      const scale = new LogitScale({ temperature: 0.02 });
      const optimizer = new SGD(scale.parameters(), { lr: 1 });
      for (const direction of [1, 1, -1]) {
        scale.zeroGrad();
        // One step goes far beyond the maximum, or back from it.
        scale
          .temperature()
          .mul(direction * 500)
          .backward();
        assert.notEqual(scale.logitScale.grad!.itemSync(), 0);
        optimizer.step();
        const found = scale.temperature().itemSync();
        assert.ok(direction === 1 ? Math.abs(found - 0.01) < 1e-6 : found > 1, String(found));
      }
      noGrad(() => scale.logitScale.fill_(50).dispose());
      assert.ok(Math.abs(scale.forward(torch.ones([1])).itemSync() - 100) < 1e-3);
      scale.dispose();
    });
  });

  it('refuses starting values out of range', () => {
    for (const [options, message] of [
      [{ temperature: 0 }, /temperature must be a positive number/],
      [{ temperature: 0.001 }, /maximum must be 1 \/ temperature \(1000\) or more, found 100/],
      [{ bias: Infinity }, /bias must be a number/],
    ] as const) {
      assert.throws(
        () => new LogitScale(options),
        (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
      );
    }
  });
});
