import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { memory, resetPeakMemory, scope, torch } from '../../src/torch';

interface Reading {
  liveTensors: number;
  cpuBytes: number;
  rss: number;
}

/** Runs a million operators in a fresh process; gives what was held after four tenths and at the end. */
function run(loop: string): { start: Reading; end: Reading } {
  const program = `
    const { memory, scope, torch } = require('./src/torch');
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const x = torch.ones([16]);
    const thousand = () => { for (let i = 0; i < 1000; i++) x.add(x); };
    const read = async () => {
      for (let i = 0; i < 10; i++) { gc(); await turn(); }
      const { liveTensors, cpuBytes } = memory();
      return { liveTensors, cpuBytes, rss: process.memoryUsage.rss() };
    };
    (async () => {
      const step = ${loop};
      for (let i = 0; i < 400; i++) await step();
      const start = await read();
      for (let i = 0; i < 600; i++) await step();
      console.log(JSON.stringify({ start, end: await read() }));
    })();`;
  const result = spawnSync(process.execPath, ['--expose-gc', '-r', 'ts-node/register/transpile-only', '-e', program], {
    cwd: join(__dirname, '..', '..'),
    encoding: 'utf8',
  });
  assert.equal(result.status, 0, result.stderr);
  assert.equal(result.stderr, '');
  return JSON.parse(result.stdout) as { start: Reading; end: Reading };
}

describe('a million small operators', function () {
  this.timeout(120_000);

  for (const [where, loop] of [
    ['inside scopes', '() => scope(thousand)'],
    ['outside any scope, with turns of the event loop', 'async () => { thousand(); await turn(); }'],
  ] as const) {
    it(`leave live tensors and memory where they were: ${where}`, () => {
      const { start, end } = run(loop);
      assert.equal(end.liveTensors, start.liveTensors);
      assert.equal(end.liveTensors, 1);
      assert.equal(end.cpuBytes, start.cpuBytes);
      // Six hundred thousand that were not freed would take some 300 MB; how far malloc's own memory reaches varies by some 30.
      assert.ok(end.rss < start.rss + 100e6, JSON.stringify({ start, end }));
    });
  }
});

describe('a scope that ends', () => {
  // A small tensor may be freed a little later, when others are made; what it keeps alive may not.
  const big = 1 << 20;
  const cases: Record<string, () => void> = {
    'a large graph': () => {
      torch.ones([big]).requiresGrad_().mul(2).pow(2).sum();
    },
    'a large graph that was joined to a small one in place': () => {
      const total = torch.zeros([1]).requiresGrad_().mul(1);
      total.add_(torch.ones([big]).requiresGrad_().pow(2).sum());
    },
    'memory that a small tensor was given later': () => {
      torch.zeros([1]).setData(torch.ones([big]));
    },
    'few elements of much memory': () => {
      torch.ones([big]).narrow(0, 0, 1);
    },
    'many elements in little memory': () => {
      torch.ones([1]).expand([big]).requiresGrad_().pow(2).sum();
    },
  };
  for (const [what, body] of Object.entries(cases)) {
    it(`frees at once ${what}`, () => {
      scope(body);
      resetPeakMemory();
      const { cpuBytes } = memory();
      scope(body);
      const once = memory().peakCpuBytes - cpuBytes;
      resetPeakMemory();
      for (let i = 0; i < 3; i++) scope(body);
      assert.ok(
        memory().peakCpuBytes - cpuBytes < once + big,
        `${memory().peakCpuBytes - cpuBytes} bytes, once ${once}`,
      );
      assert.equal(memory().cpuBytes, cpuBytes);
    });
  }
});
