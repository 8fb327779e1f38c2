import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AdapterError } from '../../bench/harness/adapter';
import type { Case, Implementation, JsonObject } from '../../bench/harness/case';
import { compareTimes, type Measurement, MismatchError, measure, schedule } from '../../bench/harness/measure';
import { summarize } from '../../bench/harness/statistics';

const ADAPTER = path.join(__dirname, 'fixtures', 'fake-adapter.cjs');

function fake(name: string, settings: JsonObject = {}): Implementation {
  return {
    name,
    launch: () => ({ command: process.execPath, arguments: [ADAPTER, JSON.stringify({ name, ...settings })] }),
  };
}

function fakeCase(implementations: Implementation[], changes: Partial<Case> = {}): Case {
  return {
    name: 'fake',
    title: 'nothing at all',
    unit: 'call',
    rounds: 3,
    warmup: 1,
    tasks: [{ name: 'one', options: { step: 1 } }],
    implementations,
    reference: 'peer',
    tolerance: { relative: 0.01, absolute: 0 },
    goals: [],
    ...changes,
  };
}

const run = (benchmark: Case, changes: { rounds?: number; timeoutSeconds?: number } = {}) =>
  measure(benchmark, { root: __dirname, threads: 2, timeoutSeconds: 20, log: () => undefined, ...changes });

describe('bench measure', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'kontrast-bench-test-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('schedules A B A B, warm-up rounds first', () => {
    const order = schedule(['A', 'B'], 1, 2);
    assert.deepEqual(
      order.map(({ name, counts }) => name + (counts ? '' : ' (warm-up)')),
      ['A (warm-up)', 'B (warm-up)', 'A', 'B', 'A', 'B'],
    );
  });

  it('runs adapters in alternation, task after task', async () => {
    const trace = path.join(folder, 'trace');
    const tasks = [1, 2].map((step) => ({ name: `task ${step}`, options: { step } }));
    await run(fakeCase([fake('ours', { trace }), fake('peer', { trace })], { tasks, rounds: 2 }));
    const expected = [1, 2].flatMap((step) => Array.from({ length: 3 }, () => [`ours ${step}`, `peer ${step}`]).flat());
    assert.deepEqual(readFileSync(trace, 'utf8').trim().split('\n'), expected);
  });

  it('leaves the warm-up out of the times, and divides pair by pair', async () => {
    // A fake's n-th run takes n times its seconds; the warm-up is the first.
    const report = await run(fakeCase([fake('ours', { seconds: 1 }), fake('peer', { seconds: 2.5 })]));
    const [ours, peer] = report.measurements;
    assert.deepEqual(ours.secondsPerItem, [0.2, 0.3, 0.4]);
    assert.equal(ours.time.median, 0.3);
    assert.equal(ours.itemsPerSecond, 1 / 0.3);
    assert.ok(Math.abs((ours.speedRatio?.median ?? 0) - 2.5) < 1e-12);
    assert.equal(peer.speedRatio, null);
    assert.equal(report.rounds, 3);
  });

  it('sends threads and what the case prepared, and removes the shared folder', async () => {
    let shared = '';
    const report = await run(
      fakeCase([fake('peer')], {
        prepare: (preparation) => {
          shared = preparation.folder;
          writeFileSync(path.join(shared, 'weights'), '1');
          return { shared };
        },
      }),
    );
    const [peer] = report.implementations;
    assert.equal(peer.status, 'measured');
    assert.deepEqual(peer.status === 'measured' && peer.versions, { fake: '1', threads: '2', omp: '2', shared });
    assert.equal(existsSync(shared), false);
  });

  it('reads peak memory from the system, or takes what the adapter says of its child', async function () {
    if (process.platform !== 'linux') this.skip();
    const report = await run(fakeCase([fake('ours', { peakBytes: 123 }), fake('peer')]));
    const [ours, peer] = report.implementations.map((one) => (one.status === 'measured' ? one.peakBytes : null));
    assert.equal(ours, 123);
    assert.ok((peer ?? 0) > 10e6, `a Node process of ${peer} bytes`);
  });

  it('fails on results that differ, before any time counts', async () => {
    await assert.rejects(run(fakeCase([fake('ours', { result: [1, 2.1] }), fake('peer')])), (error: Error) => {
      assert.ok(error instanceof MismatchError);
      assert.match(error.message, /^fake, one: ours differs from peer; result\[1\]: 2.1, expected 2/);
      return true;
    });
  });

  it('lets an implementation have a wider tolerance of its own', async () => {
    const rough = { ...fake('rough', { result: [1, 2.1] }), tolerance: { relative: 0.1, absolute: 0 } };
    const report = await run(fakeCase([rough, fake('peer')]));
    assert.equal(report.measurements.length, 2);
  });

  it('skips an implementation that is not there, says why, and still compares the others', async () => {
    const absent: Implementation = { name: 'peer', launch: () => ({ unavailable: 'it is not installed' }) };
    const goals: Case['goals'] = [
      { kind: 'time ratio', task: 'one', implementation: 'ours', against: 'peer', atMost: 1 },
      { kind: 'time', task: 'one', implementation: 'ours', atMost: 1 },
    ];
    const report = await run(fakeCase([fake('ours'), absent], { goals }));
    assert.deepEqual(report.implementations.at(1), {
      name: 'peer',
      status: 'skipped',
      reason: 'it is not installed',
    });
    assert.deepEqual(
      report.goals.map(({ met }) => met),
      [null, true],
    );
    assert.equal(report.measurements[0].speedRatio, null);
    await assert.rejects(run(fakeCase([fake('ours'), fake('ours too', { result: [9] }), absent])), MismatchError);
  });

  it('judges goals by the median of pairs', async () => {
    const goals: Case['goals'] = [
      { kind: 'speed ratio', task: 'one', implementation: 'ours', against: 'peer', atLeast: 1.5 },
      { kind: 'speed ratio', task: 'one', implementation: 'ours', against: 'peer', atLeast: 2.5 },
      { kind: 'time ratio', task: 'one', implementation: 'ours', against: 'peer', atMost: 0.5 },
      { kind: 'time', task: 'one', implementation: 'ours', atMost: 0.29 },
    ];
    const report = await run(fakeCase([fake('ours', { seconds: 1 }), fake('peer', { seconds: 2 })], { goals }));
    assert.deepEqual(
      report.goals.map(({ value, met }) => [value, met]),
      [
        [2, true],
        [2, false],
        [0.5, true],
        [0.3, false],
      ],
    );
  });

  it('compares two implementations task by task, and takes the median over the tasks', async () => {
    const measured = (task: string, implementation: string, secondsPerItem: number[]): Measurement => ({
      task,
      implementation,
      secondsPerItem,
      time: summarize(secondsPerItem),
      itemsPerSecond: 1,
      speedRatio: null,
    });
    const measurements = [
      measured('a', 'ours', [1, 2, 9]),
      measured('a', 'peer', [2, 4, 4]),
      measured('b', 'ours', [3]),
      measured('b', 'peer', [1]),
      measured('c', 'ours', [2]),
      measured('c', 'peer', [2]),
      measured('c', 'other', [1]),
    ];
    const pair = { implementation: 'ours', against: 'peer' };
    assert.deepEqual(compareTimes(pair, measurements), {
      ...pair,
      ratios: [
        { task: 'a', ratio: 0.5 },
        { task: 'b', ratio: 3 },
        { task: 'c', ratio: 1 },
      ],
      median: 1,
    });
    assert.equal(compareTimes({ implementation: 'ours', against: 'nobody' }, measurements), undefined);

    const goals: Case['goals'] = [0.4, 0.6].map((atMost) => ({ kind: 'median time ratio', ...pair, atMost }));
    const comparisons = [pair, { implementation: 'ours', against: 'absent' }];
    const report = await run(fakeCase([fake('ours'), fake('peer', { seconds: 2 })], { goals, comparisons }));
    assert.deepEqual(
      report.goals.map(({ value, met }) => [value, met]),
      [
        [0.5, false],
        [0.5, true],
      ],
    );
    assert.deepEqual(report.comparisons, [{ ...pair, ratios: [{ task: 'one', ratio: 0.5 }], median: 0.5 }]);
  });

  it('lets a case have its own number of threads', async () => {
    const report = await run(fakeCase([fake('peer')], { threads: 1 }));
    const [peer] = report.implementations;
    assert.ok(peer.status === 'measured');
    assert.deepEqual([peer.versions['threads'], peer.versions['omp']], ['1', '1']);
  });

  it('fails on an adapter that crashes, with its exit code and what it wrote', async () => {
    await assert.rejects(run(fakeCase([fake('ours', { crashAt: 2 }), fake('peer')])), (error: Error) => {
      assert.ok(error instanceof AdapterError);
      assert.match(error.message, /^ours ended with exit code 7\n--- its standard error ---\nout of luck$/);
      return true;
    });
  });

  it('fails on an adapter that cannot be started', async () => {
    const missing: Implementation = { name: 'ours', launch: () => ({ command: '/nowhere/program', arguments: [] }) };
    await assert.rejects(run(fakeCase([missing, fake('peer')])), /ours could not be started: .*ENOENT/);
  });

  it('fails on an adapter that reports an error, answers nonsense, or no time', async () => {
    await assert.rejects(run(fakeCase([fake('ours', { error: 'no such file' })])), /ours reports: no such file/);
    await assert.rejects(run(fakeCase([fake('ours', { says: 'hello' })])), /ours answered run with .* not JSON: hello/);
    await assert.rejects(run(fakeCase([fake('ours', { says: '3' })])), /not an object: 3/);
    await assert.rejects(run(fakeCase([fake('ours', { seconds: 0 })])), /without positive "seconds"/);
    await assert.rejects(run(fakeCase([fake('ours', { says: '{"seconds":1,"items":1}' })])), /without a "result"/);
  });

  it('fails on an adapter that does not answer in time, and ends it', async () => {
    const silent = run(fakeCase([fake('ours', { silent: true })]), { timeoutSeconds: 0.5 });
    await assert.rejects(silent, /ours did not answer run within 0.5 s/);
  });
});
