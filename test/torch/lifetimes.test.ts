import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

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
      assert.ok(end.rss < start.rss * 1.05 + 8e6, JSON.stringify({ start, end }));
    });
  }
});
