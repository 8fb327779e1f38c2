import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bytesHere, downloadFile, partPath, type RemoteFile } from '../../src/libtorch/resumable-download';
import { FakeIndex, sha256 } from './fake-index';
import { temporaryFolder } from './fakes';

const quick = { backoffSeconds: 0.001, retries: 3, idleSeconds: 5, env: {} };

describe('downloads that can be gone on with', () => {
  const index = new FakeIndex();
  const base = temporaryFolder();
  const name = 'a-1.0-py3-none-any.whl';
  const content = randomBytes(300_000);
  let folder: string;
  let file: RemoteFile;
  before(() => index.wheels.set(name, content));
  beforeEach(() => {
    folder = mkdtempSync(join(base, 'd-'));
    file = { fileName: name, url: `${index.origin}/files/${name}`, sha256: sha256(content), size: content.length };
  });

  const download = (more: Partial<RemoteFile> = {}, http = quick, onBytes?: (bytes: number) => void) =>
    downloadFile({ ...file, ...more }, folder, http, onBytes);
  const isRight = () => {
    assert.deepEqual(readdirSync(folder), [name]);
    assert.ok(readFileSync(join(folder, name)).equals(content));
  };
  /** Leaves a part as a process does that was interrupted. */
  async function interrupt(bytes = 100_000, more: Partial<RemoteFile> = {}): Promise<void> {
    index.behaviour.breakAfter = () => bytes;
    await assert.rejects(download(more, { ...quick, retries: 0 }), { code: 'LIBTORCH_DOWNLOAD' });
    delete index.behaviour.breakAfter;
    index.requests.length = 0;
    assert.ok(bytesHere(folder, file) > 0, 'nothing was kept');
  }

  it('give a file its name when it is whole', async () => {
    const seen: number[] = [];
    assert.equal(await download({}, quick, (bytes) => seen.push(bytes)), join(folder, name));
    isRight();
    assert.equal(seen.at(-1), content.length);
    assert.equal(bytesHere(folder, file), content.length);
    // The second time it is there.
    index.requests.length = 0;
    await download();
    assert.deepEqual(index.requests, []);
  });

  it('go on after broken connections, as often as it takes', async () => {
    // More breaks than tries: each brings some bytes, and so the tries count anew.
    let breaks = 8;
    index.behaviour.breakAfter = () => (breaks-- > 0 ? 30_000 : undefined);
    await download();
    isRight();
    assert.equal(index.requests.length, 9);
    assert.match(index.requests[1]!, / bytes=\d+-$/);
  });

  it('give up when nothing comes any more, keep what there is, and go on the next time', async () => {
    await interrupt();
    index.behaviour.status = () => 503;
    await assert.rejects(download(), /answered 503/);
    const here = bytesHere(folder, file);
    index.behaviour = {};
    index.requests.length = 0;
    await download();
    isRight();
    assert.deepEqual(index.requests, [`/files/${name} bytes=${here}-`]);
  });

  it('go on after a process that was killed', async function () {
    this.timeout(30_000);
    index.behaviour.stallAfter = () => 200_000;
    const program = `
      require('ts-node').register({ transpileOnly: true });
      const { downloadFile } = require('./src/libtorch/resumable-download');
      downloadFile(${JSON.stringify(file)}, ${JSON.stringify(folder)}, {});`;
    const child = spawn(process.execPath, ['-e', program], { cwd: resolve(__dirname, '..', '..'), stdio: 'ignore' });
    const ended = once(child, 'exit');
    while (bytesHere(folder, file) < 200_000) {
      assert.equal(child.exitCode, null, 'the process ended before it could be killed');
      await sleep(10);
    }
    child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    index.behaviour = {};
    index.requests.length = 0;
    await download();
    isRight();
    assert.deepEqual(index.requests, [`/files/${name} bytes=200000-`]);
  });

  it('start over where a server sends no parts', async () => {
    await interrupt();
    index.behaviour.ranges = false;
    const seen: number[] = [];
    await download({}, quick, (bytes) => seen.push(bytes));
    isRight();
    assert.ok(seen.includes(0), 'the count did not fall');
  });

  it('start over when the file has changed on the server', async () => {
    const before = { sha256: null, size: null };
    index.behaviour.content = () => randomBytes(300_000);
    await interrupt(100_000, before);
    index.behaviour = {};
    await download(before);
    isRight();
    assert.equal(index.requests.length, 1);
  });

  it('start over when there is no way to tell that the file is the same', async () => {
    index.behaviour.tags = false;
    await interrupt(100_000, { sha256: null });
    index.behaviour.tags = false;
    await download({ sha256: null });
    isRight();
    assert.deepEqual(index.requests, [`/files/${name}`]);
  });

  it('start over when the part is of another file, too long, or without its note', async () => {
    const note = `${partPath(folder, name)}.json`.slice(folder.length);
    for (const spoil of [
      () => writeFileSync(folder + note, readFileSync(folder + note, 'utf8').replace(file.sha256!, 'f'.repeat(64))),
      () => writeFileSync(partPath(folder, name), randomBytes(300_001)),
      () => writeFileSync(folder + note, '{'),
    ]) {
      folder = mkdtempSync(join(base, 'd-'));
      await interrupt();
      spoil();
      await download();
      isRight();
      assert.deepEqual(index.requests, [`/files/${name}`]);
    }
  });

  it('start over once when the bytes are wrong, then give up', async () => {
    await interrupt();
    // The part is damaged on the disk: the end shows it.
    writeFileSync(partPath(folder, name), randomBytes(statSync(partPath(folder, name)).size));
    await download();
    isRight();
    assert.equal(index.requests.length, 2);

    folder = mkdtempSync(join(base, 'd-'));
    index.requests.length = 0;
    index.behaviour.content = () => randomBytes(300_000);
    await assert.rejects(download(), { code: 'LIBTORCH_DAMAGED', message: /SHA-256 is another.*--index-url/ });
    assert.equal(index.requests.length, 2);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('replace a file of that name which is damaged', async () => {
    writeFileSync(join(folder, name), randomBytes(300_000));
    await download();
    isRight();
  });

  it('refuse a file of another size at once', async () => {
    await assert.rejects(download({ size: 299_999 }), {
      code: 'LIBTORCH_DAMAGED',
      message: /has 300000 bytes, .* says 299999/,
    });
    assert.equal(index.requests.length, 1);
  });

  it('need neither size nor hash', async () => {
    await download({ size: null, sha256: null });
    isRight();
  });

  it('try again when a connection falls silent', async () => {
    let stalls = 1;
    index.behaviour.stallAfter = () => (stalls-- > 0 ? 1000 : undefined);
    await download({}, { ...quick, idleSeconds: 0.2 });
    isRight();
    assert.match(index.requests[1]!, / bytes=1000-$/);
  });

  it('do not try again what is refused for good', async () => {
    for (const status of [403, 404]) {
      index.requests.length = 0;
      index.behaviour.status = () => status;
      await assert.rejects(download(), new RegExp(`answered ${status}`));
      assert.equal(index.requests.length, 1);
    }
  });

  it('say that the disk is full, and keep what there is', async () => {
    // A write that fails for want of space, without a disk that is full.
    const full = () => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
    };
    await interrupt();
    const here = bytesHere(folder, file);
    await assert.rejects(download({}, quick, full), {
      code: 'LIBTORCH_SPACE',
      message: /is full\. Free some space .*KONTRAST_CACHE=<folder>/,
    });
    assert.equal(bytesHere(folder, file), here);
  });
});
