import assert from 'node:assert/strict';
import { InvalidArgumentError, keep, memory, torch, type Tensor } from '../../src/torch';
import { device } from '../support/device';

describe('hooks', () => {
  const leaf = (numbers: number[]): Tensor => torch.tensor(numbers, { requiresGrad: true, device });

  it('see a gradient and may replace it, in the order of their registration', () => {
    const x = leaf([1, 2]);
    const seen: unknown[] = [];
    const y = x.mul(3);
    y.registerHook((gradient) => {
      seen.push(gradient.toArraySync());
      return gradient.mul(2);
    });
    y.registerHook((gradient) => void seen.push(gradient.toArraySync()));
    y.sum().backward();
    assert.deepEqual(seen, [
      [1, 1],
      [2, 2],
    ]);
    assert.deepEqual(x.grad!.toArraySync(), [6, 6]);
  });

  it('can be removed', () => {
    const x = leaf([1]);
    let calls = 0;
    const hook = x.registerHook(() => void calls++);
    x.sum().backward();
    hook.remove();
    hook.remove();
    x.sum().backward();
    assert.equal(calls, 1);
    const other = leaf([1]);
    const kept = other.mul(2);
    const late = kept.registerHook(() => void calls++);
    const sum = kept.sum();
    kept.dispose();
    late.remove();
    sum.backward();
    assert.equal(calls, 1, 'also when the handle that it was registered by is gone');
  });

  it('keep what they are told to, and nothing else', () => {
    const before = memory().liveTensors;
    const x = leaf([1, 2]);
    let kept: Tensor | undefined;
    const hook = x.registerHook((gradient) => {
      kept = keep(gradient.mul(5));
      gradient.mul(2);
    });
    const sum = x.sum();
    sum.backward();
    hook.remove();
    assert.deepEqual(kept!.toArraySync(), [5, 5]);
    kept!.dispose();
    sum.dispose();
    x.dispose();
    assert.equal(memory().liveTensors, before);
  });

  it('pass on what they throw, in both forms of backward', async () => {
    const x = leaf([1]);
    const wrong = new RangeError('mine');
    x.registerHook(() => {
      throw wrong;
    });
    assert.throws(
      () => {
        x.sum().backward();
      },
      (error) => error === wrong,
    );
    await assert.rejects(x.sum().backwardAsync(), (error) => error === wrong);
    assert.throws(() => x.registerHook(3 as never), InvalidArgumentError);
  });

  it('run after accumulation, once a pass, with the gradient in place', () => {
    const x = leaf([1, 2]);
    const seen: unknown[] = [];
    x.setPostAccumulateGradHook((parameter) => {
      seen.push(parameter.grad!.toArraySync());
      parameter.grad = null;
    });
    const y = x.mul(2);
    y.sum().add(y.sum()).backward();
    assert.deepEqual(seen, [[4, 4]]);
    assert.equal(x.grad, null);
    x.setPostAccumulateGradHook(null);
    x.sum().backward();
    assert.equal(seen.length, 1);
    assert.throws(() => {
      y.setPostAccumulateGradHook(() => undefined);
    }, /only in leaves/);
  });
});
