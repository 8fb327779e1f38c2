import * as assert from 'node:assert/strict';
import * as os from 'node:os';
import * as path from 'node:path';
import { cacheDirectory } from '../../src/data/cache-directory';

describe('cacheDirectory', () => {
  const home = path.join(os.homedir(), '.cache', 'kontrast');

  it('prefers KONTRAST_CACHE, then XDG_CACHE_HOME, then the home folder', () => {
    assert.equal(cacheDirectory({ KONTRAST_CACHE: '/a/b', XDG_CACHE_HOME: '/x' }), path.resolve('/a/b'));
    assert.equal(cacheDirectory({ XDG_CACHE_HOME: '/x' }), path.join('/x', 'kontrast'));
    assert.equal(cacheDirectory({}), home);
  });

  it('takes a relative KONTRAST_CACHE from the working directory', () => {
    assert.equal(cacheDirectory({ KONTRAST_CACHE: 'here' }), path.resolve('here'));
  });

  it('passes over empty variables and a relative XDG_CACHE_HOME', () => {
    assert.equal(cacheDirectory({ KONTRAST_CACHE: '', XDG_CACHE_HOME: '' }), home);
    assert.equal(cacheDirectory({ XDG_CACHE_HOME: 'relative' }), home);
  });
});
