import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  DisposedError,
  InvalidArgumentError,
  memory,
  receiveTensor,
  shareTensor,
  torch,
  withdrawTensor,
  type Tensor,
  type TensorToken,
} from '../../src/torch';

const torchFile = join(__dirname, '..', '..', 'src', 'torch');

/** A worker that runs `body` with `torch` functions at hand. */
function startWorker(body: string, workerData: unknown): Worker {
  const program = `
    require('ts-node/register/transpile-only');
    const { torch, receiveTensor, shareTensor } = require(${JSON.stringify(torchFile)});
    const { parentPort, workerData } = require('node:worker_threads');
    ${body}`;
  return new Worker(program, { eval: true, workerData });
}

describe('sharing tensors between threads', function () {
  this.timeout(60_000);

  it('gives the other thread the same memory, in both directions', async () => {
    const x = torch.zeros([4]);
    const worker = startWorker(
      `const x = receiveTensor(workerData.x);
       x.add_(1);
       parentPort.postMessage({ y: shareTensor(torch.tensor([1, 2, 3]).mul(2)) });
       parentPort.once('message', () => { x.mul_(5); parentPort.postMessage('done'); });`,
      { x: shareTensor(x) },
    );
    const [{ y: token }] = (await once(worker, 'message')) as [{ y: TensorToken }];
    assert.deepEqual(x.toArraySync(), [1, 1, 1, 1]);
    x.add_(1);
    worker.postMessage('go on');
    await once(worker, 'message');
    assert.deepEqual(x.toArraySync(), [10, 10, 10, 10]);
    await worker.terminate();
    // It outlives the thread that made it.
    const y = receiveTensor(token);
    assert.deepEqual(y.toArraySync(), [2, 4, 6]);
  });

  it('copies what lies in an array of the other thread, which ends before the tensor', async () => {
    const worker = startWorker(
      `const array = new Float32Array([7, 8, 9]);
       parentPort.postMessage(shareTensor(torch.fromTypedArray(array, [3], { copy: false })));`,
      null,
    );
    const [token] = (await once(worker, 'message')) as [TensorToken];
    await worker.terminate();
    const x = receiveTensor(token);
    (globalThis as { gc?: () => void }).gc?.();
    assert.deepEqual(x.toArraySync(), [7, 8, 9]);
  });

  it('hands over as often as was said, and keeps nothing afterwards', () => {
    const before = memory().liveTensors;
    const x = torch.ones([2], { requiresGrad: true });
    const token = shareTensor(x, { receipts: 2 });
    const [a, b] = [receiveTensor(token), receiveTensor(token)];
    assert.ok(a.isSame(x) && b.isSame(x) && a.requiresGrad);
    assert.throws(() => receiveTensor(token), DisposedError);
    const other = shareTensor(x);
    assert.equal(withdrawTensor(other), true);
    assert.equal(withdrawTensor(other), false);
    assert.throws(() => receiveTensor(other), DisposedError);
    for (const tensor of [x, a, b]) tensor.dispose();
    assert.equal(memory().liveTensors, before);
  });

  it('refuses tensors with a graph, and tokens that are none', () => {
    const x = torch.ones([2], { requiresGrad: true });
    assert.throws(() => shareTensor(x.mul(2)), /share what detach\(\) gives/);
    assert.throws(() => shareTensor(3 as unknown as Tensor), InvalidArgumentError);
    assert.throws(() => shareTensor(x, { receipts: 0 }), InvalidArgumentError);
    assert.throws(() => receiveTensor({} as TensorToken), InvalidArgumentError);
    assert.throws(() => receiveTensor(null as unknown as TensorToken), InvalidArgumentError);
    const disposed = torch.ones([1]);
    disposed.dispose();
    assert.throws(() => shareTensor(disposed), DisposedError);
  });
});
