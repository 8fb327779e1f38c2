import assert from 'node:assert/strict';
import {
  compareReleases,
  parseVersion,
  pinnedVersion,
  refuseVersion,
  supportedMinors,
} from '../../src/libtorch/version';

describe('LibTorch versions', () => {
  it('are split into release, minor release and build', () => {
    assert.deepEqual(parseVersion('2.13.0'), { release: '2.13.0', minor: '2.13', local: '' });
    assert.deepEqual(parseVersion('2.11.0+cu130'), { release: '2.11.0', minor: '2.11', local: 'cu130' });
    assert.deepEqual(parseVersion('2.14.0a0+git1234567'), { release: '2.14.0', minor: '2.14', local: 'git1234567' });
  });

  it('are refused when they are not versions', () => {
    for (const text of ['', '2.13', 'two', '2.x.0', 'undefined.undefined.undefined']) {
      assert.throws(() => parseVersion(text), { code: 'INVALID_ARGUMENT' });
    }
  });

  it('are compared as numbers', () => {
    assert.ok(compareReleases('2.9', '2.13') < 0);
    assert.ok(compareReleases('2.13.1', '2.13') > 0);
    assert.equal(compareReleases('2.13', '2.13.0'), 0);
  });

  it('are accepted for a build within the range that the sources compile against', () => {
    for (const text of [pinnedVersion, `${supportedMinors.oldest}.0`, `${supportedMinors.newest}.1+cu130`]) {
      assert.equal(refuseVersion(parseVersion(text)), null);
    }
    assert.equal(refuseVersion(parseVersion('2.10.1')), 'version 2.10.1 is older than 2.11');
    assert.equal(refuseVersion(parseVersion('2.15.0')), 'version 2.15.0 is newer than 2.14');
  });

  it('must be of the minor release that the addon was built for', () => {
    assert.equal(refuseVersion(parseVersion('2.13.4+cu130'), '2.13'), null);
    assert.equal(refuseVersion(parseVersion('2.14.0'), '2.13'), 'version 2.14.0, but the addon was built for 2.13');
  });
});
