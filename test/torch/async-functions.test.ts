import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import {
  autocast,
  DisposedError,
  getThreads,
  memory,
  noGrad,
  scope,
  setThreads,
  torch,
  TorchError,
  TorchTypeError,
  type Tensor,
} from '../../src/torch';
import { device } from '../support/device';

describe('torch.async', () => {
  const ones = (...shape: number[]): Tensor => torch.ones(shape, { device });

  it('gives what the function gives', async () => {
    const x = torch.tensor([3, 1, 2], { device });
    const [values, indices] = await torch.async.sort(x, 0);
    assert.deepEqual(values.toArraySync(), [1, 2, 3]);
    assert.deepEqual(indices.toArraySync(), [1n, 2n, 0n]);
    assert.deepEqual((await torch.async.sum(x, [0], { keepdim: true })).toArraySync(), [6]);
    assert.equal(await torch.async.equal(x, x), true);
    assert.equal((await torch.async.zeros([2], { requiresGrad: true, device })).requiresGrad, true);
    assert.deepEqual((await torch.async.add(x, 1, { alpha: 2 })).toArraySync(), [5, 3, 4]);
  });

  it('takes its arguments when it is called, and rejects as the function throws', async () => {
    const x = ones(2, 3);
    const pending = torch.async.mul(x, 2);
    x.dispose();
    assert.deepEqual((await pending).shape, [2, 3]);
    await assert.rejects(torch.async.mul(x, 2), DisposedError);
    await assert.rejects(torch.async.matmul(ones(2, 3), ones(2, 3)), (error: TorchError) => {
      assert.equal(error.constructor, TorchError);
      assert.equal(error.operator, 'aten::matmul');
      assert.deepEqual(error.schemas, ['aten::matmul(Tensor self, Tensor other) -> Tensor']);
      assert.match(error.message, /cannot be multiplied \(2x3 and 2x3\)$/);
      return true;
    });
    await assert.rejects(torch.async.matmul('x' as never, x), TorchTypeError);
  });

  it('leaves the event loop free', async function () {
    this.timeout(60_000);
    const x = torch.randn([1400, 1400], { device });
    const start = performance.now();
    const pending = torch.async.linalgEig(x.to('cpu').slice(0, 0, 500).slice(1, 0, 500));
    let latest = performance.now();
    let longest = 0;
    let turns = 0;
    let isDone = false;
    void pending.then(() => (isDone = true));
    // `isDone` changes while the loop waits.
    while (!(isDone as boolean)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      longest = Math.max(longest, performance.now() - latest);
      latest = performance.now();
      turns++;
    }
    const total = performance.now() - start;
    assert.ok(turns > 10 && longest < total / 2, `${String(turns)} turns, ${String(longest)} of ${String(total)} ms`);
  });

  it('runs in order, with the grad mode and autocast of the call', async () => {
    const order: number[] = [];
    const long = torch.async.matmul(ones(700, 700), ones(700, 700)).then(() => order.push(1));
    const short = torch.async.add(ones(1), 1).then(() => order.push(2));
    await Promise.all([short, long]);
    assert.deepEqual(order, [1, 2]);
    const x = ones(2, 2).requiresGrad_();
    assert.equal((await torch.async.mul(x, 2)).requiresGrad, true);
    const [plain] = noGrad(() => [torch.async.mul(x, 2)] as const);
    assert.equal((await plain).requiresGrad, false);
    const kind = device === 'cpu' ? 'cpu' : 'cuda';
    const [short16] = autocast({ device: kind }, () => [torch.async.matmul(x, x)] as const);
    assert.equal((await short16).dtype, 'bfloat16');
    assert.equal((await torch.async.matmul(x, x)).dtype, 'float32');
  });

  it('puts results under the scope of the call', async () => {
    const before = memory().liveTensors;
    let inner: Tensor | undefined;
    const kept = await scope(async () => {
      inner = await torch.async.ones([2], { device });
      await turn();
      return torch.async.add(inner, 1);
    });
    assert.equal(inner!.isDisposed, true);
    assert.deepEqual(kept.toArraySync(), [2, 2]);
    kept.dispose();
    // The scope has ended before the operator does.
    let late: Promise<Tensor> | undefined;
    scope(() => {
      late = torch.async.ones([3], { device });
    });
    const free = await late!;
    assert.deepEqual(free.toArraySync(), [1, 1, 1]);
    free.dispose();
    assert.equal(memory().liveTensors, before);
  });

  it('has backward, which accumulates as the plain one does', async () => {
    const x = torch.tensor([1, 2], { requiresGrad: true, device });
    const y = x.mul(x);
    await y.backwardAsync(ones(2), { retainGraph: true });
    await y.sum().backwardAsync();
    assert.deepEqual(x.grad!.toArraySync(), [4, 8]);
    await assert.rejects(y.sum().backwardAsync(), /backward through the graph a second time/);
    await assert.rejects(ones(1).sum().backwardAsync(), TorchError);
    await assert.rejects(y.backwardAsync(3 as never), /the gradient must be a tensor/);
  });

  it('uses as many threads as the thread of the call, on which the order of sums depends', async () => {
    const before = getThreads();
    const many = Array.from({ length: 8 }, () => torch.randn([300_001]));
    const sums = (): number[] => many.map((x) => x.sum().itemSync());
    try {
      setThreads(1);
      const alone = sums();
      assert.deepEqual(await Promise.all(many.map((x) => torch.async.sum(x).then((sum) => sum.itemSync()))), alone);
      setThreads(2);
      const together = sums();
      assert.notDeepEqual(together, alone);
      assert.deepEqual(await Promise.all(many.map((x) => torch.async.sum(x).then((sum) => sum.itemSync()))), together);
    } finally {
      setThreads(before);
    }
  });
});
