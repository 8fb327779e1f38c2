import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LibTorchSetupError } from '../../src/libtorch/errors';
import { listWheel, unpackWheel, type UnpackOptions } from '../../src/libtorch/wheel';
import { temporaryFolder, wheelEntries, zip, type ZipEntry } from './fakes';

describe('unpacking a wheel', () => {
  const base = temporaryFolder();
  const wheel = join(base, 'some-1.0-py3-none-any.whl');
  const good = () =>
    wheelEntries('some-1.0', { 'some/a.txt': 'first', 'some/b, c.txt': 'second', 'other/d.txt': 'third' });

  function write(entries: readonly ZipEntry[], change: (bytes: Buffer) => Buffer = (bytes) => bytes): void {
    writeFileSync(wheel, change(zip(entries)));
  }

  function unpack(options: Partial<UnpackOptions> = {}) {
    const destination = mkdtempSync(join(base, 'out-'));
    return unpackWheel({ wheel, destination, includes: () => true, ...options }).then((result) => ({
      ...result,
      destination,
    }));
  }

  /** The lines of the record, changed. */
  function withRecord(entries: ZipEntry[], change: (record: string) => string): ZipEntry[] {
    return entries.map((entry) =>
      entry.name.endsWith('RECORD') ? { ...entry, content: Buffer.from(change(entry.content.toString())) } : entry,
    );
  }

  function refused(message: RegExp) {
    return (error: unknown) => {
      assert.ok(error instanceof LibTorchSetupError, String(error));
      assert.equal(error.code, 'LIBTORCH_DAMAGED');
      assert.match(error.message, /^some-1\.0-py3-none-any\.whl is damaged: /);
      assert.match(error.message, message);
      return true;
    };
  }

  it('writes the chosen files and counts them', async () => {
    write(good());
    const progress: [number, number][] = [];
    const { files, bytes, destination } = await unpack({
      includes: (path) => path.startsWith('some/'),
      onProgress: (done, total) => progress.push([done, total]),
    });
    assert.deepEqual([files, bytes], [2, 11]);
    assert.deepEqual(progress.at(-1), [11, 11]);
    assert.equal(readFileSync(join(destination, 'some/a.txt'), 'utf8'), 'first');
    assert.equal(readFileSync(join(destination, 'some/b, c.txt'), 'utf8'), 'second');
    assert.equal(statSync(join(destination, 'some/a.txt')).mode & 0o777, 0o755);
    assert.equal(existsSync(join(destination, 'other')), false);
  });

  it('lists what is in it', async () => {
    write(good());
    assert.deepEqual(await listWheel(wheel), [
      'some/a.txt',
      'some/b, c.txt',
      'other/d.txt',
      'some-1.0.dist-info/RECORD',
    ]);
  });

  it('refuses a file with another content', async () => {
    write(good().map((entry) => (entry.name === 'some/a.txt' ? { ...entry, content: Buffer.from('fIrst') } : entry)));
    await assert.rejects(unpack(), refused(/some\/a\.txt does not match the hash/));
  });

  it('refuses every archive with one flipped byte in the packed data', async () => {
    const big = wheelEntries('some-1.0', {
      'some/a.txt': Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * i) % 251)),
    });
    const packed = zip(big);
    const start = packed.indexOf('some/a.txt') + 'some/a.txt'.length;
    const end = packed.indexOf('PK\x03\x04', start, 'latin1');
    for (let at = start; at < end; at += 7) {
      write(big, (bytes) => {
        bytes[at]! ^= 0x10;
        return bytes;
      });
      await assert.rejects(unpack(), refused(/some\/a\.txt/));
    }
  });

  it('refuses a file of another size', async () => {
    write(withRecord(good(), (record) => record.replace(',5\n', ',6\n')));
    await assert.rejects(unpack(), refused(/some\/a\.txt has 5 bytes, its record says 6/));
  });

  it('refuses a truncated archive, wherever it ends', async () => {
    const length = zip(good()).length;
    for (const kept of [0, 1, 30, Math.floor(length / 2), length - 23, length - 1]) {
      write(good(), (bytes) => bytes.subarray(0, kept));
      await assert.rejects(unpack(), refused(/damaged/));
    }
  });

  it('refuses files that the record does not name, and records that name files it lacks', async () => {
    write(withRecord(good(), (record) => record.replace(/^some\/a.*\n/m, '')));
    await assert.rejects(unpack(), refused(/some\/a\.txt is not named in its record/));
    write(good().filter(({ name }) => name !== 'other/d.txt'));
    await assert.rejects(unpack(), refused(/other\/d\.txt is named in its record but missing/));
    write([...good(), good()[0]!]);
    await assert.rejects(unpack(), refused(/two files of the same name/));
  });

  it('refuses a record that is absent, unreadable or without hashes', async () => {
    write(good().slice(0, -1));
    await assert.rejects(unpack(), refused(/it has no RECORD/));
    write(withRecord(good(), (record) => record.replace('first', '').replace(/,sha256=[^,]*/, ',md5=abc')));
    await assert.rejects(unpack(), refused(/gives no SHA-256 for some\/a\.txt/));
    write(withRecord(good(), (record) => `just a line\n${record}`));
    await assert.rejects(unpack(), refused(/a line that can't be read: just a line/));
  });

  it('refuses names that leave the folder', async () => {
    for (const name of [
      '../outside.txt',
      'some/../../outside.txt',
      '/outside.txt',
      'C:/outside.txt',
      'some\\..\\outside.txt',
      './a',
    ]) {
      write(wheelEntries('some-1.0', { 'some/a.txt': 'first', [name]: 'evil' }));
      await assert.rejects(unpack(), refused(/absolute|relative|character|leave/));
    }
    assert.equal(existsSync(join(base, 'outside.txt')), false);
  });

  it('leaves errors of the file system as they are', async () => {
    await assert.rejects(unpack({ wheel: join(base, 'absent.whl') }), { code: 'ENOENT' });
    write(good());
    await assert.rejects(unpack({ destination: wheel }), { code: /ENOTDIR|EEXIST/ });
  });
});
