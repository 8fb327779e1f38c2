import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { memory, scope, torch, type Tensor } from '../../src/torch';

const residentBytes = (): number => process.memoryUsage.rss();

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

  it('does not grow when one thread makes tensors and another frees them', async function () {
    // AddressSanitizer keeps what is freed for a while.
    if (process.env['ASAN_OPTIONS'] !== undefined) this.skip();
    const round = async (): Promise<void> => {
      await scope(async () => {
        const one = torch.ones([4]);
        await Promise.all(Array.from({ length: 5000 }, () => torch.async.add(one, one)));
      });
    };
    for (let i = 0; i < 5; i++) await round();
    const before = residentBytes();
    for (let i = 0; i < 40; i++) await round();
    // 200,000 blocks of 64 bytes are 12 MB: what every round left behind would be seen.
    assert.ok(residentBytes() - before < 8e6, `grew by ${String(residentBytes() - before)} bytes`);
  });

  it('outlives the thread that made it', async () => {
    const before = memory().cpuBytes;
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(
        `require('ts-node/register/transpile-only');
         const { scope, torch } = require(${JSON.stringify(require.resolve('../../src/torch'))});
         globalThis.kept = Array.from({ length: 5000 }, () => torch.ones([8]));
         scope(() => void Array.from({ length: 5000 }, () => torch.ones([8])));`,
        { eval: true },
      );
      await once(worker, 'exit');
    }
    assert.equal(memory().cpuBytes, before);
  });
});
