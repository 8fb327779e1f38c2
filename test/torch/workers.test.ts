import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

/** Runs a program in a process of its own, which an abort in the addon would end; gives what it printed. */
function run(program: string): string {
  const result = spawnSync(process.execPath, ['-r', 'ts-node/register/transpile-only', '-e', program], {
    cwd: root,
    encoding: 'utf8',
    timeout: 120_000,
  });
  assert.equal(result.signal, null, `${result.stdout}${result.stderr}`);
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
  return result.stdout.trim();
}

/** A program that starts workers with this body one after another, ends each after its first message and some milliseconds. */
const terminating = (body: string): string => `
  const { Worker } = require('node:worker_threads');
  (async () => {
    for (const delay of [0, 2, 10]) {
      const worker = new Worker(${JSON.stringify(`
        require('ts-node/register/transpile-only');
        const { torch } = require(${JSON.stringify(join(root, 'src', 'torch'))});
        const { parentPort } = require('node:worker_threads');
        ${body}
      `)}, { eval: true });
      worker.on('error', (error) => { console.error(error); process.exit(1); });
      await new Promise((resolve) => worker.once('message', resolve));
      await new Promise((resolve) => setTimeout(resolve, delay));
      await worker.terminate();
    }
    const { torch } = require('./src/torch');
    console.log(torch.ones([3]).sum().itemSync());
  })();
`;

describe('worker threads', function () {
  this.timeout(120_000);

  it('may be ended while reads are under way', () => {
    const body = `
      const x = torch.ones([1 << 20], { dtype: 'float16' });
      parentPort.postMessage('ready');
      const read = () => x.data().then(read);
      for (let i = 0; i < 16; i++) read();
    `;
    assert.equal(run(terminating(body)), '3');
  });

  it('may be ended in the middle of operators, also of ones that fail', () => {
    const body = `
      const a = torch.ones([2, 3]);
      parentPort.postMessage('ready');
      for (;;) {
        try { a.matmul(a); } catch {}
        try { torch.tensor([1]).itemSync(); } catch {}
        try { a.itemSync(); } catch {}
      }
    `;
    assert.equal(run(terminating(body)), '3');
  });

  it('may be ended while LibTorch works', () => {
    const body = `
      const a = torch.ones([1500, 1500], { requiresGrad: true });
      parentPort.postMessage('ready');
      for (;;) a.matmul(a).sum().backward();
    `;
    assert.equal(run(terminating(body)), '3');
  });

  it('may be ended while a backward pass beside its event loop calls its functions', () => {
    const body = `
      const { defineFunction } = require(${JSON.stringify(join(root, 'src', 'torch'))});
      const twice = defineFunction({
        name: 'twice',
        forward: (_context, x) => x.mul(2),
        backward: (_context, gradient) => gradient.mul(2),
      });
      const a = torch.ones([64, 64], { requiresGrad: true });
      const pass = () => twice(a.matmul(a)).sum().backwardAsync().then(pass);
      for (let i = 0; i < 4; i++) pass();
      setTimeout(() => parentPort.postMessage('ready'), 20);
    `;
    assert.equal(run(terminating(body)), '3');
  });

  const withSecondCopy = (body: string): string => `
    const { mkdtempSync, cpSync, symlinkSync, rmSync } = require('node:fs');
    const { join } = require('node:path');
    const copy = mkdtempSync(join(require('node:os').tmpdir(), 'kontrast-copy-'));
    cpSync('src', join(copy, 'src'), { recursive: true });
    cpSync('package.json', join(copy, 'package.json'));
    for (const name of ['node_modules', 'build', 'tsconfig.json']) symlinkSync(join(process.cwd(), name), join(copy, name));
    const first = require('./src/torch');
    const second = require(join(copy, 'src', 'torch'));
    process.once('exit', () => rmSync(copy, { recursive: true }));
    ${body}
  `;

  it('may hold a second copy of kontrast, each with its own tensors', () => {
    const printed = run(
      withSecondCopy(`
        const x = first.torch.tensor([1, 2]);
        const y = second.torch.tensor([3, 4, 5]);
        const list = (n) => Array.from({ length: n }, () => 1);
        second.torch.ones(list(3)).sum([0, 1], { keepdim: true });
        console.log(x.add(x, { alpha: 2 }).toArraySync(), first.torch.cat([x, x]).shape, y.sum([0]).itemSync());
        try { second.torch.zeros([1]).add(x); } catch (error) { console.log(error instanceof second.KontrastError); }
        try { x.matmul(first.torch.ones([7])); } catch (error) { console.log(error instanceof first.TorchError); }
      `),
    );
    assert.equal(printed, '[ 3, 6 ] [ 4 ] 12\ntrue\ntrue');
  });

  it('hears of the warnings of each of two copies', () => {
    const printed = run(
      withSecondCopy(`
        process.on('warning', ({ name, message }) => console.log(name, message.split(' ')[0]));
        for (const { torch, setDeterministic } of [second, first]) {
          setDeterministic(true, { warnOnly: true });
          torch.zeros([2]).put_(torch.tensor([0], { dtype: 'int64' }), torch.ones([1]));
        }
      `),
    );
    assert.equal(printed, 'LibTorchWarning put_\nLibTorchWarning put_');
  });
});
