import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import {
  cuda,
  Event,
  InvalidArgumentError,
  scope,
  Stream,
  synchronize,
  synchronizeAsync,
  torch,
  withStream,
} from '../../src/torch';
import { device, onCuda } from '../support/device';

/** Some tens of milliseconds of work for a GPU. */
function work(): void {
  scope(() => {
    let x = torch.ones([4096, 4096], { device });
    for (let i = 0; i < 20; i++) x = x.matmul(x).mul(1e-4);
  });
}

describe('streams', () => {
  it(`run code on a stream of ${device} and go back to the one before`, () => {
    const outside = Stream.current(device);
    const first = new Stream(device);
    const second = new Stream(device, { priority: -1 });
    const sum = withStream(first, () => {
      assert.ok(Stream.current(device).equals(first));
      withStream(second, () => {
        assert.ok(Stream.current(device).equals(second));
      });
      assert.ok(Stream.current(device).equals(first));
      assert.throws(
        () =>
          withStream(second, () => {
            throw new RangeError('its own');
          }),
        RangeError,
      );
      assert.ok(Stream.current(device).equals(first));
      return torch.ones([3], { device }).sum();
    });
    assert.ok(Stream.current(device).equals(outside));
    outside.wait(first);
    assert.equal(sum.itemSync(), 3);
    first.synchronize();
    assert.equal(first.query(), true);
    assert.equal(Stream.default(device).id, 0);
    if (onCuda) {
      assert.ok(!first.equals(outside) && !second.equals(first));
      assert.match(first.device, /^cuda:\d+$/);
    }
  });

  it('take synchronous code only', () => {
    const outside = Stream.current(device);
    assert.throws(
      () => withStream(new Stream(device), async () => Promise.resolve()),
      /withStream takes a synchronous/,
    );
    assert.ok(Stream.current(device).equals(outside));
  });

  it('refuse devices that have none, and priorities that mean nothing', () => {
    assert.throws(() => new Stream('meta'), /'meta' has no streams/);
    assert.throws(() => new Stream(0 as never), /a device is a name/);
    assert.throws(() => new Event({ device: 'meta' }), /'meta' has no streams/);
    assert.throws(() => new Stream(device, { priority: 1 }), /priority is 0 or a negative whole number, not 1/);
    assert.throws(() => new Stream(device, { priority: -0.5 }), /not -0.5/);
    if (!cuda.isAvailable()) {
      assert.throws(() => new Stream(), InvalidArgumentError);
      assert.throws(() => new Event(), InvalidArgumentError);
    }
  });

  it('let one wait for the work of another', function () {
    if (!onCuda) this.skip();
    const producer = new Stream(device);
    const consumer = new Stream(device);
    const x = withStream(producer, () => {
      work();
      return torch.full([1 << 20], 3, { device });
    });
    consumer.wait(producer);
    const sum = withStream(consumer, () => x.sum());
    consumer.synchronize();
    assert.equal(sum.itemSync(), 3 * 2 ** 20);
  });
});

describe('events', () => {
  it(`tell when a point in the work of ${device} is reached`, async () => {
    const event = new Event({ device });
    assert.equal(event.query(), true);
    event.synchronize();
    await event.wait();
    torch.ones([8], { device }).add(1);
    assert.equal(event.record(), event);
    event.synchronize();
    assert.equal(event.query(), true);
    await event.record(new Stream(device)).wait();
    Stream.current(device).wait(event);
  });

  it(`take the time of work on ${device}`, () => {
    const start = new Event({ device, timing: true }).record();
    if (onCuda) work();
    else waitFor(20);
    const end = new Event({ device, timing: true }).record();
    end.synchronize();
    const milliseconds = start.elapsedTime(end);
    assert.ok(milliseconds > (onCuda ? 0.1 : 19) && milliseconds < 30_000, String(milliseconds));
    assert.equal(start.elapsedTime(start), 0);
    const again = start.record();
    again.synchronize();
    assert.ok(end.elapsedTime(again) >= 0);
  });

  it('refuse to tell a time that was not taken', () => {
    const timed = new Event({ device, timing: true }).record();
    timed.synchronize();
    assert.throws(() => timed.elapsedTime(new Event({ device, timing: true })), /second event was not recorded/);
    assert.throws(() => new Event({ device }).record().elapsedTime(timed), /first event was made without/);
    if (!onCuda) return;
    assert.throws(() => timed.elapsedTime(new Event({ device: 'cpu', timing: true }).record()), /between/);
    const end = new Event({ device, timing: true });
    work();
    assert.throws(() => timed.elapsedTime(end.record()), /second event is not reached yet/);
    end.synchronize();
  });

  it('belong to the streams of their device', function () {
    if (!onCuda) this.skip();
    const event = new Event({ device: 'cpu' });
    assert.throws(
      () => event.record(Stream.current(device)),
      /an event of 'cpu' cannot be recorded on a stream of 'cuda:/,
    );
    const recorded = new Event({ device }).record();
    assert.throws(() => {
      Stream.current('cpu').wait(recorded);
    }, /the CPU cannot wait in a stream for 'cuda:/);
  });

  it('leave the event loop free while they are waited for', async function () {
    if (!onCuda) this.skip();
    synchronize(device);
    work();
    const event = new Event({ device }).record();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const waiting = event.wait();
    assert.equal(event.query(), false);
    // Recording again does not move the point that is waited for.
    work();
    event.record();
    await waiting;
    clearInterval(timer);
    assert.ok(turns >= 2, String(turns));
    await synchronizeAsync(device);
    assert.equal(event.query(), true);
  });
});

describe('synchronizeAsync', () => {
  it('waits for a device, and is rejected for one that is not there', async () => {
    await synchronizeAsync(device);
    await synchronizeAsync('cpu');
    await assert.rejects(synchronizeAsync('cuda:99'), InvalidArgumentError);
  });

  it('may be under way when its worker is ended', () => {
    const root = join(__dirname, '..', '..');
    const body = `
      require('ts-node/register/transpile-only');
      const { Event, synchronizeAsync } = require('./src/torch');
      const event = new Event({ device: ${JSON.stringify(device)} }).record();
      require('node:worker_threads').parentPort.postMessage('ready');
      const wait = () => Promise.all([event.wait(), synchronizeAsync(event.device)]).then(wait);
      for (let i = 0; i < 8; i++) wait();
    `;
    const program = `
      const { Worker } = require('node:worker_threads');
      (async () => {
        for (const delay of [0, 2, 10]) {
          const worker = new Worker(${JSON.stringify(body)}, { eval: true });
          await new Promise((resolve) => worker.once('message', resolve));
          await new Promise((resolve) => setTimeout(resolve, delay));
          await worker.terminate();
        }
        console.log('done');
      })();
    `;
    const { stdout, stderr, signal } = spawnSync(process.execPath, ['-e', program], { cwd: root, encoding: 'utf8' });
    assert.equal(signal, null, stderr);
    assert.equal(stdout.trim(), 'done', stderr);
  }).timeout(120_000);
});

function waitFor(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}
