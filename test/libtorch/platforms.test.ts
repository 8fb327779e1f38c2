import assert from 'node:assert/strict';
import { glibcVersion, ownPlatform, platforms } from '../../src/libtorch/platforms';
import { essentialLibraries } from '../../src/libtorch/folder';

describe('platforms', () => {
  it('have names that this process tells of itself', () => {
    assert.equal(ownPlatform, `${process.platform}-${process.arch}`);
    for (const { id, os, cpu } of platforms) assert.equal(id, `${os}-${cpu}`);
  });

  it('have the libraries that LibTorch cannot do without', () => {
    const own = platforms.find(({ id }) => id === ownPlatform);
    for (const library of essentialLibraries) assert.ok(own === undefined || own.libraries.includes(library), library);
    for (const { id, libraries } of platforms)
      assert.ok(
        libraries.some((name) => /torch_cpu/.test(name)),
        id,
      );
  });

  it('tell the version of the GNU C library on Linux', () => {
    const version = glibcVersion();
    assert.ok(process.platform === 'linux' ? version === null || /^2\.\d+$/.test(version) : version === null);
  });
});
