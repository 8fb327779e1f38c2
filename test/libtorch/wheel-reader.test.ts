import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { IndexedWheel } from '../../src/libtorch/package-index';
import { WheelReader } from '../../src/libtorch/wheel-reader';
import { FakeIndex } from './fake-index';
import { temporaryFolder, wheelEntries, zip } from './fakes';

const quick = { backoffSeconds: 0.001, env: {} };

describe('looking into wheels', () => {
  const index = new FakeIndex();
  const base = temporaryFolder();
  const big = 'big-1.0-py3-none-any.whl';
  const small = 'small-1.0-py3-none-any.whl';
  before(() => {
    // The list of files begins before the end that is fetched first.
    const headers = Object.fromEntries(
      Array.from({ length: 3000 }, (_, i) => [`torch/include/${i}/${'x'.repeat(40)}.h`, '']),
    );
    index.add(big, ['nvidia-nccl>=2'], { ...headers, 'torch/lib/a.so': randomBytes(5 << 20) });
    index.add(small, ['one', 'two'], { 'a/b.so': 'abc' });
  });

  const remote = (fileName: string, more: Partial<IndexedWheel> = {}): IndexedWheel => ({
    name: fileName.split('-')[0]!,
    version: '1.0',
    pythons: ['py3'],
    platforms: ['any'],
    fileName,
    url: `${index.origin}/files/${fileName}`,
    sha256: null,
    size: null,
    hasMetadataFile: false,
    isYanked: false,
    ...more,
  });

  it('reads the ends of a wheel on a server only', async () => {
    const reader = new WheelReader(quick);
    assert.deepEqual(await reader.requirementsOf(remote(big)), ['nvidia-nccl>=2']);
    const files = (await reader.filesOf(remote(big)))!;
    assert.equal(files.length, 3003);
    assert.deepEqual(
      files.filter(({ path }) => path.endsWith('.so')),
      [{ path: 'torch/lib/a.so', size: 5 << 20 }],
    );
    assert.ok(
      index.requests.length > 1 && index.requests.every((line) => line.includes('bytes=')),
      index.requests.join(),
    );
    assert.ok(index.requests.length < 10, index.requests.join());
  });

  it('takes the file of metadata where there is one', async () => {
    const reader = new WheelReader(quick);
    assert.deepEqual(await reader.requirementsOf(remote(big, { hasMetadataFile: true })), ['nvidia-nccl>=2']);
    assert.deepEqual(index.requests, [`/files/${big}.metadata`]);
    // A promise that is not kept.
    index.behaviour.status = (path) => (path.endsWith('.metadata') ? 404 : undefined);
    assert.deepEqual(await new WheelReader(quick).requirementsOf(remote(small, { hasMetadataFile: true })), [
      'one',
      'two',
    ]);
  });

  it('reads small wheels whole where a server sends no parts, and tells that it can not read big ones', async () => {
    index.behaviour.ranges = false;
    const reader = new WheelReader(quick);
    assert.deepEqual(await reader.requirementsOf(remote(small)), ['one', 'two']);
    assert.equal(await reader.requirementsOf(remote(big)), null);
    assert.equal(await reader.filesOf(remote(big)), null);
  });

  it('reads wheels on this machine', async () => {
    const path = join(base, small);
    writeFileSync(path, index.wheels.get(small)!);
    const wheel = remote(small, { url: pathToFileURL(path).href });
    const reader = new WheelReader(quick);
    assert.deepEqual(await reader.requirementsOf(wheel), ['one', 'two']);
    assert.equal((await reader.filesOf(wheel))!.length, 3);
    assert.equal(index.requests.length, 0);
    await assert.rejects(new WheelReader(quick).filesOf(remote('absent', { url: 'file:///no/such/file' })), {
      code: 'ENOENT',
    });
  });

  it('refuses what is no wheel', async () => {
    index.behaviour.content = () => Buffer.from('not found, but with the status 200');
    await assert.rejects(new WheelReader(quick).requirementsOf(remote(small)), {
      code: 'LIBTORCH_DAMAGED',
      message: new RegExp(`^${small} \\(http://.*\\) is damaged: `),
    });
    index.behaviour.content = () => zip(wheelEntries('small-1.0', { 'a/b.so': '' }));
    await assert.rejects(new WheelReader(quick).filesOf(remote(small)), /it has no METADATA/);
  });

  it('tries again after a broken connection', async () => {
    let breaks = 2;
    index.behaviour.breakAfter = () => (breaks-- > 0 ? 100 : undefined);
    assert.deepEqual(await new WheelReader(quick).requirementsOf(remote(small)), ['one', 'two']);
    assert.equal(index.requests.length, 3);
  });
});
