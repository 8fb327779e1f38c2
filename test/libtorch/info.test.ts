import assert from 'node:assert/strict';
import { join } from 'node:path';
import { libtorchInfo } from '../../src/libtorch/info';
import { writeBuildRecord } from '../../src/libtorch/record';
import { isolatedEnvironment, temporaryFolder, writeFiles, writeTorch } from './fakes';

describe('information about LibTorch', () => {
  const base = temporaryFolder();

  it('tells versions and places', () => {
    const packageRoot = join(base, 'kontrast');
    writeFiles(packageRoot, { 'package.json': '{"version": "1.2.3"}' });
    const root = writeTorch(join(base, 'torch'), '2.13.1+cpu');
    const env = isolatedEnvironment(base, root);
    const before = libtorchInfo({ env, packageRoot });
    assert.equal(before.builtFor, null);
    writeBuildRecord(packageRoot, {
      libtorchVersion: '2.13.0',
      libtorchRoot: root,
      libtorchSource: 'python',
      sourcesHash: '',
    });
    const { libtorch, ...rest } = libtorchInfo({ env, packageRoot });
    assert.deepEqual(rest, {
      kontrast: '1.2.3',
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
      pinned: '2.13.0',
      builtFor: '2.13.0',
      cache: env.KONTRAST_CACHE,
    });
    assert.deepEqual([libtorch.version, libtorch.root, libtorch.source], ['2.13.1', root, 'python']);
  });
});
