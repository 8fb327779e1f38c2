import assert from 'node:assert/strict';
import { formatBytes } from '../../src/libtorch/bytes';

describe('sizes in words', () => {
  it('have a unit that suits them', () => {
    const sizes = [0, 1, 2373, 999_000, 999_600, 191_794_682, 999_600_000, 3_847_000_000];
    assert.deepEqual(sizes.map(formatBytes), ['0 kB', '1 kB', '3 kB', '999 kB', '1 MB', '192 MB', '1.0 GB', '3.8 GB']);
  });
});
