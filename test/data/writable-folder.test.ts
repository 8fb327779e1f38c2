import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { unwritableReason } from '../../src/data/writable-folder';

describe('unwritableReason', () => {
  let folder: string;
  beforeEach(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-writable-'))));
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  it('is null for a folder that can be written or made, and leaves nothing behind', () => {
    assert.equal(unwritableReason(folder), null);
    assert.equal(unwritableReason(path.join(folder, 'a', 'b')), null);
    assert.deepEqual(fs.readdirSync(folder), []);
  });

  it('names a file, or a link to nothing, where a folder should be', () => {
    fs.writeFileSync(path.join(folder, 'file'), '');
    fs.symlinkSync(path.join(folder, 'nothing'), path.join(folder, 'link'));
    for (const below of ['', 'a', 'a/b']) {
      assert.match(unwritableReason(path.join(folder, 'file', below))!, /^'.*file' is not a folder$/);
      assert.match(unwritableReason(path.join(folder, 'link', below))!, /^'.*link' is a link to what is not there$/);
    }
  });

  it('names a folder that must not be written', () => {
    const closed = path.join(folder, 'closed');
    fs.mkdirSync(closed, { mode: 0o555 });
    fs.chmodSync(folder, 0o755);
    // Nothing is forbidden to root.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid!(65534);
    try {
      assert.match(unwritableReason(path.join(closed, 'a'))!, /^EACCES: permission denied in '.*closed'$/);
    } finally {
      if (isRoot) process.seteuid!(0);
    }
  });

  it('comes back from places where nothing can be made at all', function () {
    if (process.platform !== 'linux') this.skip();
    assert.match(unwritableReason('/proc/kontrast/a')!, / in '\/proc'$/);
  });
});
