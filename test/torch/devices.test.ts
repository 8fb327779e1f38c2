import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import { resolve } from 'node:path';
import {
  autocast,
  cuda,
  Generator,
  getInteropThreads,
  getThreads,
  InvalidArgumentError,
  libtorchBuild,
  memory,
  scope,
  setInteropThreads,
  setThreads,
  synchronize,
  torch,
} from '../../src/torch';
import { device } from '../support/device';

describe('devices', () => {
  it('tells what LibTorch is and can do', () => {
    const build = libtorchBuild();
    assert.match(build.version, /^2\.\d+\.\d+/);
    assert.ok(build.cpuCapability.length > 0);
    assert.equal(cuda.isAvailable(), cuda.deviceCount() > 0);
    synchronize('cpu');
    assert.ok(memory().frameBytes > 0);
  });

  it(`computes, differentiates, casts and draws on ${device}`, async () => {
    const x = torch.tensor([1, 2, 3], { device, requiresGrad: true });
    assert.equal(x.device.split(':')[0], device.split(':')[0]);
    x.mul(x).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [2, 4, 6]);
    assert.deepEqual(await x.to('cpu').data(), new Float32Array([1, 2, 3]));
    assert.equal(await x.at(1).item(), 2);
    const kind = device.startsWith('cuda') ? 'cuda' : 'cpu';
    assert.equal(
      autocast({ device: kind }, () => torch.ones([2, 2], { device }).matmul(torch.ones([2, 2], { device }))).dtype,
      'bfloat16',
    );
    const generator = new Generator({ device, seed: 4 });
    const first = torch.randn([4], { device, generator }).dataSync();
    const state = generator.getState();
    const second = torch.randn([4], { device, generator }).dataSync();
    generator.setState(state);
    assert.deepEqual(torch.randn([4], { device, generator }).dataSync(), second);
    assert.deepEqual(torch.randn([4], { device, generator: generator.manualSeed(4) }).dataSync(), first);
    const before = memory().liveTensors;
    scope(() =>
      torch
        .ones([8, 8], { device })
        .matmul(torch.ones([8, 8], { device }))
        .sum()
        .itemSync(),
    );
    synchronize(device);
    assert.equal(memory(device).liveTensors, before);
  });

  it('sets threads, and refuses none', () => {
    const before = getThreads();
    setThreads(1);
    assert.equal(getThreads(), 1);
    setThreads(before);
    for (const wrong of [0, -1, 1.5, NaN, 2 ** 31, '2' as never]) {
      for (const set of [setThreads, setInteropThreads]) {
        assert.throws(() => {
          set(wrong);
        }, InvalidArgumentError);
      }
    }
    assert.throws(() => {
      setThreads(0);
    }, /at least 1, not 0/);
    assert.equal(getThreads(), before);
  });

  it('sets interop threads once in a process, and says so when that is too late', () => {
    const program = `
      const { getInteropThreads, setInteropThreads } = require('./src/torch');
      setInteropThreads(3);
      setInteropThreads(3);
      try { setInteropThreads(4); } catch (error) { console.log(error.name, error.message); }
      console.log(getInteropThreads());
    `;
    const printed = execFileSync(process.execPath, ['-r', 'ts-node/register/transpile-only', '-e', program], {
      cwd: resolve(__dirname, '../..'),
      encoding: 'utf8',
    });
    assert.match(printed, /^InvalidArgumentError the number of interop threads is 3 for good.*\n3\n$/);
    assert.ok(getInteropThreads() >= 1);
  });

  it('refuses what is no name of a device', () => {
    assert.throws(() => {
      synchronize(0 as never);
    }, /a device is a name such as 'cpu' or 'cuda:0', not 0/);
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
