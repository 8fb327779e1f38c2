import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withLock } from '../../src/libtorch/lock';
import { temporaryFolder } from './fakes';

describe('the lock of the cache folder', () => {
  const base = temporaryFolder();
  const lock = join(base, '.setup.lock');
  const deadProcess = () => spawnSync(process.execPath, ['-e', '']).pid;
  const writeOwner = (owner: number, host = hostname()) =>
    writeFileSync(lock, JSON.stringify({ process: owner, host }));

  it('lets one in at a time, and is gone afterwards', async () => {
    const waited: string[] = [];
    let inside = 0;
    const work = async () => {
      assert.equal(++inside, 1);
      await sleep(50);
      inside--;
      return 'done';
    };
    const options = { onWait: (owner: string) => waited.push(owner) };
    assert.deepEqual(await Promise.all([1, 2, 3].map(() => withLock(base, work, options))), ['done', 'done', 'done']);
    assert.deepEqual(waited, [`process ${process.pid} on ${hostname()}`, `process ${process.pid} on ${hostname()}`]);
    assert.deepEqual(readdirSync(base), []);
  });

  it('is released when the work fails', async () => {
    await assert.rejects(
      withLock(base, () => Promise.reject(new Error('work failed'))),
      /work failed/,
    );
    assert.equal(existsSync(lock), false);
  });

  it('is taken over from a process that has died, by one of those that wait', async () => {
    writeOwner(deadProcess());
    let inside = 0;
    const work = async () => {
      assert.equal(++inside, 1);
      await sleep(20);
      inside--;
    };
    await Promise.all([1, 2, 3, 4].map(() => withLock(base, work)));
    assert.deepEqual(readdirSync(base), []);
  });

  it('is taken over when it has stayed empty', async () => {
    writeFileSync(lock, '');
    await assert.rejects(
      withLock(base, () => Promise.resolve(), { timeoutSeconds: 0.1 }),
      { code: 'LIBTORCH_LOCKED' },
    );
    const past = new Date(Date.now() - 20_000);
    utimesSync(lock, past, past);
    await withLock(base, () => Promise.resolve());
    assert.equal(existsSync(lock), false);
  });

  it('is not taken from a process that lives or that is on another machine', async () => {
    for (const [owner, host] of [
      [process.ppid, hostname()],
      [deadProcess(), 'another-machine'],
    ] as const) {
      writeOwner(owner, host);
      await assert.rejects(
        withLock(base, () => Promise.resolve(), { timeoutSeconds: 0.1 }),
        (error: Error) => {
          assert.match(
            error.message,
            new RegExp(`^process ${owner} on ${host} has held .*\\.setup\\.lock for more than 0.1 s; .*delete`),
          );
          return true;
        },
      );
      assert.ok(existsSync(lock));
    }
  });
});
