import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { cacheFolder, listCache } from '../../src/libtorch/cache';
import { temporaryFolder } from './fakes';

describe('the cache folder', () => {
  const base = temporaryFolder();

  it('is named by KONTRAST_CACHE, else by XDG_CACHE_HOME, else it is in the home folder', () => {
    assert.equal(cacheFolder({ KONTRAST_CACHE: 'here', XDG_CACHE_HOME: '/x', HOME: '/h' }), resolve('here'));
    assert.equal(cacheFolder({ XDG_CACHE_HOME: '/x', HOME: '/h' }), join('/x', 'kontrast'));
    assert.equal(cacheFolder({ HOME: '/h' }), join('/h', '.cache', 'kontrast'));
    assert.equal(cacheFolder({}), join(homedir(), '.cache', 'kontrast'));
  });

  it('lists what is named like a LibTorch', () => {
    assert.deepEqual(listCache(join(base, 'absent'), '2.13.0'), []);
    const names = [
      'libtorch-2.11.0-cpu',
      'libtorch-2.13.0-cpu',
      'libtorch-2.14.0-cu130',
      '.tmp-12',
      'libtorch-new',
      'data',
    ];
    for (const name of names) mkdirSync(join(base, name));
    const versions = listCache(base, '2.13.0').map(({ version }) => version);
    assert.deepEqual(versions, ['2.13.0', '2.14.0', '2.11.0']);
  });
});
