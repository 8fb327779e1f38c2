import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import { resolve } from 'node:path';
import { cuda, getThreads, libtorchBuild, memory, setThreads, synchronize, torch } from '../../src/torch';

describe('devices', () => {
  it('tells what LibTorch is and can do', () => {
    const build = libtorchBuild();
    assert.match(build.version, /^2\.\d+\.\d+/);
    assert.ok(build.cpuCapability.length > 0);
    assert.equal(cuda.isAvailable(), cuda.deviceCount() > 0);
    synchronize('cpu');
    assert.ok(memory().frameBytes > 0);
  });

  it('sets threads, and refuses none', () => {
    const before = getThreads();
    setThreads(1);
    assert.equal(getThreads(), 1);
    setThreads(before);
    assert.throws(() => {
      setThreads(0);
    }, /at least 1, not 0/);
  });

  it('refuses a device that is not there with an error', function () {
    if (cuda.isAvailable()) this.skip();
    assert.throws(() => torch.zeros([1], { device: 'cuda' }), /CUDA/);
  });

  it('loads in several workers at once, each with tensors of its own', async () => {
    const code = `
      require('ts-node/register/transpile-only');
      const { torch, memory } = require(${JSON.stringify(resolve(__dirname, '../../src/torch'))});
      const { parentPort, workerData } = require('node:worker_threads');
      let x = torch.full([4], workerData);
      for (let i = 0; i < 100; i++) x = x.add(1);
      parentPort.postMessage({ sum: x.sum().itemSync(), live: memory().liveTensors });
    `;
    const results = await Promise.all(
      [1, 2, 3].map(
        (workerData) =>
          new Promise<{ sum: number; live: number }>((done, fail) => {
            const worker = new Worker(code, { eval: true, workerData });
            worker.on('message', done).on('error', fail);
          }),
      ),
    );
    assert.deepEqual(
      results.map(({ sum }) => sum),
      [404, 408, 412],
    );
    for (const { live } of results) assert.ok(live >= 1 && live <= 110);
  });
});
