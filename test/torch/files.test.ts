import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { removeTemporaryFiles, writeFileAtomic } from '../../src/torch/files';

describe('writeFileAtomic', () => {
  let folder: string;
  beforeEach(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-files-'))));
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  it('writes text, bytes, and what a function writes, and replaces a file', () => {
    const file = path.join(folder, 'a');
    for (const content of [
      'text',
      new Uint8Array([116, 101, 120, 116]),
      (handle: number) => void fs.writeSync(handle, 'text'),
    ]) {
      fs.writeFileSync(file, 'before');
      writeFileAtomic(file, content);
      assert.equal(fs.readFileSync(file, 'utf8'), 'text');
    }
    assert.deepEqual(fs.readdirSync(folder), ['a']);
  });

  it('leaves the old file and no other when writing fails', () => {
    const file = path.join(folder, 'a');
    fs.writeFileSync(file, 'before');
    const fail = (handle: number): void => {
      fs.writeSync(handle, 'half');
      throw new Error('disk full');
    };
    assert.throws(() => writeFileAtomic(file, fail), /disk full/);
    assert.equal(fs.readFileSync(file, 'utf8'), 'before');
    assert.deepEqual(fs.readdirSync(folder), ['a']);
  });

  it('names the file when the system refuses', () => {
    const file = path.join(folder, 'none', 'a');
    assert.throws(() => writeFileAtomic(file, ''), /cannot write '.*none\/a': ENOENT/);
  });

  it('clears what a killed process left, and nothing else', () => {
    for (const name of ['a', 'a.123.tmp', 'a.tmp', 'a.b.tmp', 'b.123.tmp'])
      fs.writeFileSync(path.join(folder, name), '');
    removeTemporaryFiles(path.join(folder, 'a'));
    assert.deepEqual(fs.readdirSync(folder).sort(), ['a', 'a.b.tmp', 'a.tmp', 'b.123.tmp']);
  });
});
