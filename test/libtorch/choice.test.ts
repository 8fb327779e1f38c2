import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { choicePath, readChoice, removeChoice, writeChoice } from '../../src/libtorch/choice';
import { temporaryFolder } from './fakes';

describe('the choice of a build with CUDA', () => {
  const cache = join(temporaryFolder(), 'cache');

  it('is kept until it is forgotten', () => {
    assert.equal(readChoice(cache), null);
    assert.equal(removeChoice(cache), false);
    writeChoice(cache, { root: '/a/torch', source: 'python' });
    assert.deepEqual(readChoice(cache), { root: '/a/torch', source: 'python' });
    writeChoice(cache, { root: '/b/torch', source: 'cache' });
    assert.deepEqual(readChoice(cache), { root: '/b/torch', source: 'cache' });
    assert.equal(removeChoice(cache), true);
    assert.equal(existsSync(choicePath(cache)), false);
  });

  it('is none when it can not be read', () => {
    for (const text of [
      '{',
      '{}',
      'null',
      '{"root": 1, "source": "cache"}',
      '{"root": "/a", "source": "environment"}',
    ]) {
      writeFileSync(choicePath(cache), text);
      assert.equal(readChoice(cache), null, text);
    }
  });
});
