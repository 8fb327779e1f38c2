import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { dispose, DisposedError, keep, memory, scope, torch, type Tensor } from '../../src/torch';

const live = (): number => memory().liveTensors;

describe('scope', () => {
  it('frees what was made in it, save what is returned or kept', () => {
    const before = live();
    let inner: Tensor | undefined;
    let kept: Tensor | undefined;
    const { pair, table } = scope(() => {
      inner = torch.ones([2]);
      kept = keep(inner.add(1));
      const part = inner.mul(3);
      return { pair: [part, part.add(1)] as const, table: new Map([['x', torch.zeros([1])]]) };
    });
    assert.equal(live() - before, 4);
    assert.throws(() => inner!.add(1), DisposedError);
    assert.deepEqual(kept!.toArraySync(), [2, 2]);
    assert.deepEqual(pair[1].toArraySync(), [4, 4]);
    dispose(pair, kept, table);
    assert.equal(live(), before);
  });

  it('nests: what an inner scope returns belongs to the outer one', () => {
    const before = live();
    let fromInner: Tensor | undefined;
    scope(() => {
      const outer = torch.ones([2]);
      fromInner = scope(() => {
        torch.ones([2]);
        return outer.add(1);
      });
      assert.deepEqual(fromInner.toArraySync(), [2, 2]);
      assert.deepEqual(
        scope(() => outer).toArraySync(),
        [1, 1],
        'a tensor of the outer scope stays there when an inner one returns it',
      );
      assert.equal(live() - before, 2);
    });
    assert.equal(fromInner!.isDisposed, true);
    assert.equal(live(), before);
  });

  it('frees everything when the body throws', () => {
    const before = live();
    assert.throws(() =>
      scope(() => {
        torch.ones([2]);
        throw new Error('stop');
      }),
    );
    assert.equal(live(), before);
    scope(() => torch.ones([1])).dispose();
    assert.equal(live(), before);
  });

  it('never frees what autograd needs', () => {
    const weight = torch.tensor([2, 3], { requiresGrad: true });
    const loss = scope(() => weight.mul(weight).mul(weight).sum());
    loss.backward();
    assert.deepEqual(weight.grad!.toArraySync(), [12, 27]);
  });

  it('works with using', () => {
    const before = live();
    {
      using region = scope();
      torch.ones([2]);
      assert.equal(region.isOpen, true);
      assert.equal(live() - before, 1);
    }
    assert.equal(live(), before);
  });

  it('follows async code, apart from other tasks', async () => {
    const before = live();
    const task = (index: number): Promise<Tensor> =>
      scope(async () => {
        let sum = torch.zeros([1]);
        for (let i = 0; i < 5; i++) {
          const term = torch.full([1], index);
          await turn();
          sum = sum.add(term);
        }
        return sum;
      });
    const results = await Promise.all(Array.from({ length: 200 }, (_, index) => task(index)));
    assert.deepEqual(
      results.map((result) => result.itemSync()),
      results.map((_, index) => 5 * index),
    );
    assert.equal(live() - before, 200);
    dispose(results);
    assert.equal(live(), before);
  });

  it('frees an async body that rejects, and takes thenables from plain functions', async () => {
    const before = live();
    await assert.rejects(
      scope(async () => {
        torch.ones([1]);
        await turn();
        torch.ones([1]);
        throw new Error('stop');
      }),
      /stop/,
    );
    assert.equal(live(), before);
    const inner = async (): Promise<Tensor> => {
      const x = torch.ones([1]);
      await turn();
      return x.add(1);
    };
    const kept = await scope(() => inner());
    assert.equal(kept.itemSync(), 2);
    assert.equal(live() - before, 1);
    kept.dispose();
  });

  it('leaves tensors outside any scope to garbage collection', async function () {
    if (global.gc === undefined) {
      const { setFlagsFromString } = await import('node:v8');
      const { runInNewContext } = await import('node:vm');
      setFlagsFromString('--expose-gc');
      global.gc = runInNewContext('gc') as NodeJS.GCFunction;
    }
    const before = live();
    (() => {
      for (let i = 0; i < 1000; i++) torch.ones([100]);
    })();
    assert.ok(live() - before >= 1000);
    for (let i = 0; i < 20 && live() > before; i++) {
      await global.gc!({ type: 'major', execution: 'async' });
      await turn();
    }
    assert.ok(live() - before <= 1, `${String(live() - before)} of 1000 tensors are still there`);
  });

  it('holds live tensors and resident memory flat over many steps', () => {
    const x = torch.ones([64, 64]);
    const step = (): void => {
      scope(() => {
        for (let i = 0; i < 10; i++) x.matmul(x).relu().sum();
      });
    };
    for (let i = 0; i < 50; i++) step();
    const before = { tensors: live(), bytes: process.memoryUsage.rss() };
    for (let i = 0; i < 300; i++) step();
    assert.equal(live(), before.tensors);
    const growth = process.memoryUsage.rss() / before.bytes;
    assert.ok(growth < 1.05, `resident memory grew by a factor of ${growth.toFixed(3)}`);
  });

  it('warns once of a long synchronous loop outside any scope', async () => {
    const warnings: string[] = [];
    const note = (warning: Error & { code?: string }): void => {
      if (warning.code === 'KONTRAST_UNSCOPED') warnings.push(warning.message);
    };
    process.on('warning', note);
    const x = torch.zeros([1]);
    for (let i = 0; i < 200_001; i++) x.detach().dispose();
    await turn();
    for (let i = 0; i < 200_001; i++) x.detach().dispose();
    await turn();
    process.off('warning', note);
    assert.equal(warnings.length, 0, 'tensors that are disposed at once need no scope');
    const held: Tensor[] = [];
    process.on('warning', note);
    for (let i = 0; i < 200_001; i++) held.push(x.detach());
    await turn();
    dispose(held);
    await turn();
    for (let i = 0; i < 200_001; i++) held[i] = x.detach();
    dispose(held);
    await turn();
    process.off('warning', note);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /Wrap the body of the loop in scope/);
  });

  it('goes back to no scope when one opened by hand ends inside an async task', async () => {
    let unrelated: Tensor | undefined;
    const task = scope(async () => {
      await turn();
      const byHand = scope();
      torch.ones([2]);
      byHand.close();
      await turn();
    });
    // Runs after the task's first part, before its second.
    setImmediate(() => {
      unrelated = torch.ones([2]);
    });
    await task;
    assert.deepEqual(unrelated!.toArraySync(), [1, 1]);
    unrelated!.dispose();
  });

  it('takes tensors out of a result that refers to itself', () => {
    const before = live();
    interface Loop {
      self?: Loop;
      x: Tensor;
    }
    const { x } = scope(() => {
      const loop: Loop = { x: torch.ones([2]) };
      loop.self = loop;
      return loop;
    });
    assert.deepEqual(x.toArraySync(), [1, 1]);
    x.dispose();
    assert.equal(live(), before);
  });

  it('ends when looking at its result fails, in both forms', async () => {
    const before = live();
    const hostile = (): object => {
      torch.ones([2]);
      return {
        get x(): Tensor {
          throw new RangeError('no');
        },
      };
    };
    assert.throws(() => scope(hostile), RangeError);
    await assert.rejects(
      scope(async () => {
        await turn();
        return hostile();
      }),
      RangeError,
    );
    assert.equal(live(), before);
  });
});
