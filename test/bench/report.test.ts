import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { capabilitiesOf, describeMachine, machineKind } from '../../bench/harness/machine';
import { type ResultFile, formatReport, formatSeconds, resultPath, writeResult } from '../../bench/harness/report';
import { summarize } from '../../bench/harness/statistics';

const result: ResultFile = {
  case: 'fake',
  title: 'nothing at all',
  unit: 'call',
  date: '2026-01-02T03:04:05.000Z',
  commit: { hash: '0123456789abcdef', modified: true },
  kontrast: '0.1.0',
  node: '20.0.0',
  threads: 2,
  machine: describeMachine(),
  machineKind: 'linux-x64-2-cores',
  rounds: 3,
  warmup: 1,
  implementations: [
    { name: 'ours', status: 'measured', versions: { libtorch: '2.13.0' }, peakBytes: 200 * 2 ** 20 },
    { name: 'peer', status: 'skipped', reason: 'it is not installed' },
  ],
  measurements: [
    {
      task: 'add',
      implementation: 'ours',
      secondsPerItem: [1e-6, 1.2e-6, 1.1e-6],
      time: summarize([1e-6, 1.2e-6, 1.1e-6]),
      itemsPerSecond: 1 / 1.1e-6,
      speedRatio: summarize([1.5, 1.6, 1.7]),
    },
  ],
  comparisons: [
    {
      implementation: 'ours',
      against: 'peer',
      ratios: [
        { task: 'add', ratio: 0.5 },
        { task: 'mul', ratio: 0.712 },
      ],
      median: 0.606,
    },
  ],
  goals: [
    { kind: 'median time ratio', implementation: 'ours', against: 'peer', atMost: 0.7, value: 0.606, met: true },
    { kind: 'time', task: 'add', implementation: 'ours', atMost: 1e-6, value: 1.1e-6, met: false },
    { kind: 'time ratio', task: 'add', implementation: 'ours', against: 'peer', atMost: 1, value: null, met: null },
  ],
};

describe('bench report', () => {
  it('writes times in the unit that suits them', () => {
    assert.deepEqual([2.5e-8, 1.234e-6, 0.0456, 7.891].map(formatSeconds), ['25.0 ns', '1.23 µs', '45.6 ms', '7.89 s']);
  });

  it('prints what ran, where, the times, who was skipped, and the goals', () => {
    const text = formatReport(result);
    for (const part of ['0123456789 + changes', '1.10 µs', '1.60×', 'peak memory 200 MiB; libtorch 2.13.0']) {
      assert.ok(text.includes(part), `${part} is missing in\n${text}`);
    }
    assert.match(text, /│ mul +│ +0\.71 │\n│ median +│ +0\.61 │/);
    assert.match(text, /goal met: median over the tasks, ours: time ÷ peer: 0\.61, at most 0\.7$/m);
    assert.match(text, /peer: skipped, it is not installed/);
    assert.match(text, /goal MISSED: add, ours: 1.10 µs, at most 1.00 µs/);
    assert.match(text, /goal not judged: add, ours: time ÷ peer: at most 1$/m);
  });

  it('keeps results under case, machine kind and day, and leaves no temporary file', () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'kontrast-bench-test-'));
    try {
      const file = resultPath(path.join(folder, 'results'), result);
      assert.equal(path.basename(file), 'fake-linux-x64-2-cores-2026-01-02.json');
      writeResult(file, result);
      assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), result);
      assert.deepEqual(readdirSync(path.dirname(file)), [path.basename(file)]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('bench machine', () => {
  it('names the kind of machine by its best instruction set', () => {
    const kind = (...capabilities: string[]): string => machineKind({ cores: 2, capabilities });
    const prefix = `${process.platform}-${process.arch}-2-cores`;
    assert.equal(kind('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'), `${prefix}-amx`);
    assert.equal(kind('avx2', 'avx512f', 'avx512_bf16'), `${prefix}-avx512-bf16`);
    assert.equal(kind('avx2', 'avx512f'), `${prefix}-avx512`);
    assert.equal(kind('avx2'), `${prefix}-avx2`);
    assert.equal(kind(), prefix);
  });

  it('keeps only the flags that decide which kernels run', () => {
    assert.deepEqual(capabilitiesOf(['fpu', 'amx_tile', 'avx2', 'sse']), ['avx2', 'amx_tile']);
  });
});
