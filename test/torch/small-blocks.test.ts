import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { memory, scope, torch, type Tensor } from '../../src/torch';

describe('the memory of small tensors', () => {
  it('is counted, and given back', () => {
    const before = memory().cpuBytes;
    scope(() => {
      const many = Array.from({ length: 10_000 }, () => torch.zeros([16]));
      assert.equal(memory().cpuBytes - before, many.length * 64);
    });
    assert.equal(memory().cpuBytes, before);
  });

  it('is apart for each tensor, whatever its size', () => {
    scope(() => {
      const sizes = [1, 15, 16, 17, 100, 255, 256, 257, 1000];
      const made: Tensor[] = [];
      for (let round = 0; round < 50; round++) {
        for (const size of sizes) made.push(torch.full([size], made.length));
      }
      made.forEach((tensor, i) => {
        assert.equal(tensor.sum().itemSync(), i * tensor.numel());
      });
    });
  });

  it('does not grow when one thread makes tensors and another frees them', function () {
    // AddressSanitizer keeps what is freed for a while.
    if (process.env['ASAN_OPTIONS'] !== undefined) this.skip();
    // In a process of its own: nothing else then moves its resident memory.
    const program = `
      require('ts-node/register/transpile-only');
      const { scope, torch } = require(${JSON.stringify(require.resolve('../../src/torch'))});
      const round = () => scope(async () => {
        const one = torch.ones([4]);
        await Promise.all(Array.from({ length: 5000 }, () => torch.async.add(one, one)));
      });
      (async () => {
        for (let i = 0; i < 10; i++) await round();
        gc();
        const before = process.memoryUsage.rss();
        for (let i = 0; i < 80; i++) await round();
        gc();
        console.log(process.memoryUsage.rss() - before);
      })();`;
    const child = spawnSync(process.execPath, ['--expose-gc', '-e', program], { encoding: 'utf8' });
    assert.equal(child.status, 0, child.stderr);
    // 400,000 blocks of 64 bytes are 25 MB: what every round left behind would be seen.
    assert.ok(Number(child.stdout) < 12e6, `grew by ${child.stdout} bytes`);
  });

  it('outlives the thread that made it', () => {
    const torchModule = JSON.stringify(require.resolve('../../src/torch'));
    const inWorker = `
      require('ts-node/register/transpile-only');
      const { scope, torch } = require(${torchModule});
      globalThis.kept = Array.from({ length: 5000 }, () => torch.ones([8]));
      scope(() => void Array.from({ length: 5000 }, () => torch.ones([8])));`;
    // In a process of its own, where nobody else's tensors come and go.
    const program = `
      require('ts-node/register/transpile-only');
      const { once } = require('node:events');
      const { Worker } = require('node:worker_threads');
      const { memory } = require(${torchModule});
      (async () => {
        const before = memory().cpuBytes;
        for (let i = 0; i < 3; i++) await once(new Worker(${JSON.stringify(inWorker)}, { eval: true }), 'exit');
        console.log(memory().cpuBytes - before);
      })();`;
    const child = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
    assert.equal(child.status, 0, child.stderr);
    assert.equal(Number(child.stdout), 0);
  });
});
