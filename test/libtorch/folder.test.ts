import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { libraryFile, readLibTorchFolder } from '../../src/libtorch/folder';
import { temporaryFolder, torchFiles, writeFiles, writeTorch } from './fakes';

describe('a folder with LibTorch', () => {
  const base = temporaryFolder();

  it('is read from the files of an installed torch package', () => {
    const root = writeTorch(join(base, 'torch'), '2.13.0+cpu');
    assert.deepEqual(readLibTorchFolder(root), {
      root,
      lib: join(root, 'lib'),
      include: join(root, 'include'),
      hasHeaders: true,
      version: '2.13.0',
      minor: '2.13',
      variant: 'cpu',
      hasCuda: false,
    });
  });

  it('tells CUDA and its version', () => {
    const root = join(base, 'cuda');
    writeFiles(root, {
      ...torchFiles('2.11.0+cu130'),
      [`lib/${libraryFile('torch_cuda')}`]: 'cuda',
      'version.py': "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\n",
    });
    const folder = readLibTorchFolder(root);
    assert.ok(!('refused' in folder));
    assert.deepEqual([folder.variant, folder.hasCuda, folder.cudaVersion], ['cu130', true, '13.0']);
  });

  it('is read from the files of a LibTorch without Python', () => {
    const root = join(base, 'plain');
    const header = 'include/torch/headeronly/version.h';
    const lines = ['MAJOR 2', 'MINOR 14', 'PATCH 1'].map((line) => `#define TORCH_VERSION_${line}\n`).join('');
    writeFiles(root, { ...torchFiles('x'), 'build-version': '2.13.0+cu126\n', [header]: lines });
    rmSync(join(root, 'version.py'));
    const fromBuild = readLibTorchFolder(root);
    assert.ok(!('refused' in fromBuild));
    assert.deepEqual([fromBuild.version, fromBuild.variant], ['2.13.0', 'cu126']);
    rmSync(join(root, 'build-version'));
    const fromHeader = readLibTorchFolder(root);
    assert.ok(!('refused' in fromHeader));
    assert.deepEqual([fromHeader.version, fromHeader.variant], ['2.14.1', 'cpu']);
  });

  it('is refused with the reason', () => {
    assert.deepEqual(readLibTorchFolder(join(base, 'absent')), { refused: 'no such folder' });
    const root = writeTorch(join(base, 'broken'), 'unreadable');
    assert.match((readLibTorchFolder(root) as { refused: string }).refused, /does not tell its version/);
    const library = libraryFile('torch_cpu');
    writeFiles(root, { [`lib/${library}`]: '' });
    assert.deepEqual(readLibTorchFolder(root), { refused: `lib/${library} is missing` });
  });
});
