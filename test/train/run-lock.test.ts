import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { KontrastError } from '../../src/torch/errors';
import { isLockFile, lockName, RunLock } from '../../src/train/run-lock';

describe('run lock', () => {
  let parent: string;
  let folder: string;
  let other: ChildProcess;
  before(() => (other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])));
  after(() => other.kill());
  beforeEach(() => {
    parent = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-lock-'));
    folder = path.join(parent, 'runs', 'a');
  });
  afterEach(() => fs.rmSync(parent, { recursive: true }));

  const put = (name: string): void => {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, name), '');
  };
  const assertLocked = (message: RegExp): Promise<void> =>
    assert.rejects(RunLock.take(folder), (error: unknown) => {
      assert.ok(error instanceof KontrastError && error.code === 'RUN_LOCKED', String(error));
      assert.match(error.message, message);
      return true;
    });

  it('leaves no trace of a folder in which nothing was done', async () => {
    const lock = await RunLock.take(folder);
    assert.deepEqual(fs.readdirSync(folder), [lockName(process.pid)]);
    assert.ok(isLockFile(lockName(process.pid)) && !isLockFile('run.json'));
    lock.release();
    assert.deepEqual(fs.readdirSync(parent), []);
  });

  it('leaves the folder when it holds something', async () => {
    const lock = await RunLock.take(folder);
    put('run.json');
    lock.release();
    assert.deepEqual(fs.readdirSync(folder), ['run.json']);
    fs.rmSync(path.join(folder, 'run.json'));
    (await RunLock.take(folder)).release();
    assert.deepEqual(fs.readdirSync(folder), [], 'a folder that was there before stays');
  });

  it('names the process that trains there, and leaves its lock alone', async () => {
    const name = lockName(other.pid!);
    put(name);
    await assertLocked(new RegExp(`^process ${other.pid} is training into '.*runs/a': wait .*--out$`));
    assert.deepEqual(fs.readdirSync(folder), [name]);
  });

  it('lets this process in once only', async () => {
    const lock = await RunLock.take(folder);
    await assertLocked(new RegExp(`^process ${process.pid} is training`));
    lock.release();
    (await RunLock.take(folder)).release();
  });

  it('takes over from a process that has died, also when another has its number now', async function () {
    const [, host] = /^lock\.(.+)\.\d+\.\d+$/.exec(lockName(process.pid))!;
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    put(`lock.${host}.${dead}.77`);
    if (process.platform === 'linux') put(`lock.${host}.${other.pid}.1`);
    const lock = await RunLock.take(folder);
    assert.deepEqual(fs.readdirSync(folder), [lockName(process.pid)]);
    lock.release();
  });

  it('cannot tell whether a process of another machine lives, and says which file to delete', async () => {
    put('lock.another-machine.77.5');
    await assertLocked(/^process 77 on another-machine is training .* delete '.*lock\.another-machine\.77\.5'$/);
  });
});
