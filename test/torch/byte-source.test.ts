import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { openSource, readBytes, withSource, type ByteSource } from '../../src/torch/byte-source';
import { KontrastError } from '../../src/torch/errors';
import { scratch } from '../support/scratch';

function assertUnreadable(read: () => unknown, what: RegExp): void {
  assert.throws(read, (error: unknown) => {
    assert.ok(error instanceof KontrastError);
    assert.equal(error.code, 'FILE_READ');
    assert.match(error.message, what);
    return true;
  });
}

describe('openSource', () => {
  const path = scratch();
  const content = Uint8Array.from({ length: 100 }, (_, i) => i);

  it('reads parts of a file and of bytes alike', () => {
    fs.writeFileSync(path('a'), content);
    for (const file of [path('a'), content, Buffer.concat([Buffer.alloc(3), content]).subarray(3)]) {
      withSource(file, (source) => {
        assert.equal(source.size, 100);
        assert.deepEqual([...readBytes(source, 0, 3)], [0, 1, 2]);
        assert.deepEqual([...readBytes(source, 97, 3)], [97, 98, 99]);
        assert.equal(readBytes(source, 100, 0).byteLength, 0);
        const target = new Uint8Array(4);
        source.fill(target.subarray(1, 3), 50);
        assert.deepEqual([...target], [0, 50, 51, 0]);
      });
    }
  });

  it('refuses what lies outside before it makes room for it', () => {
    fs.writeFileSync(path('a'), content);
    for (const file of [path('a'), content]) {
      withSource(file, (source) => {
        for (const [position, length] of [
          [99, 2],
          [0, 2 ** 45],
          [-1, 1],
          [5, -1],
          [NaN, 1],
          [0, NaN],
        ] as const) {
          assertUnreadable(
            () => readBytes(source, position, length),
            /it has 100 bytes, and -?(\d+|NaN) were to be read/,
          );
        }
        assertUnreadable(() => source.fill(new Uint8Array(2), 99), /it has 100 bytes/);
      });
    }
  });

  it('refuses more than one buffer can hold', () => {
    const large: ByteSource = {
      name: 'large',
      size: 2 ** 52,
      fill: () => undefined,
      openFile: () => undefined,
      close: () => undefined,
    };
    assertUnreadable(() => readBytes(large, 1, 2 ** 51), /more than Node takes at once/);
  });

  it('names what is missing or no file, and does not wait for a pipe', () => {
    assertUnreadable(() => openSource(path('none')), /cannot read '.*none': ENOENT/);
    assertUnreadable(() => openSource(path('.')), /it is not a file/);
    if (process.platform !== 'win32') {
      execFileSync('mkfifo', [path('pipe')]);
      assertUnreadable(() => openSource(path('pipe')), /pipe': it is not a file/);
    }
  });

  it('says so when the file has become shorter, or was closed', () => {
    fs.writeFileSync(path('a'), content);
    const source = openSource(path('a'));
    fs.truncateSync(path('a'), 10);
    assertUnreadable(() => readBytes(source, 5, 20), /it ended after 10 bytes while it was read/);
    assertUnreadable(() => source.openFile(), /it ended after 10 bytes/);
    source.close();
    source.close();
    assertUnreadable(() => readBytes(source, 0, 1), /it was closed/);
    assertUnreadable(() => source.openFile(), /it was closed/);
  });

  it('keeps the file that it opened when another takes its name', () => {
    fs.writeFileSync(path('a'), content);
    fs.writeFileSync(path('b'), 'another');
    const source = openSource(path('a'));
    fs.renameSync(path('b'), path('a'));
    assert.deepEqual([...readBytes(source, 0, 2)], [0, 1]);
    source.close();
  });

  it('closes the file also after an error', () => {
    fs.writeFileSync(path('a'), content);
    let opened: ByteSource | undefined;
    assert.throws(() =>
      withSource(path('a'), (source) => {
        opened = source;
        throw new Error('stop');
      }),
    );
    assertUnreadable(() => readBytes(opened!, 0, 1), /it was closed/);
  });
});
