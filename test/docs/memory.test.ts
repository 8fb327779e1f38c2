import assert from 'node:assert/strict';
import { runProgramsOf } from '../support/programs';

describe('the page on memory', () => {
  it('has programs that run', () => {
    assert.deepEqual(runProgramsOf('docs/memory.md'), [
      '4 5 1\n[ 1, 1, 2, 2 ] [ 7n, 8n, 7n, 8n ]\n[ 1n, 1n, 0n, 0n ] [ 3n, 2n, 1n, 0n ]',
      '256 264 [ 8, 16 ]',
      '48 false',
      '[ 16, 3, 8 ]',
      'true [ 16, 8 ]',
      '500 [ 4, 32, 8 ]',
      '216',
      '[ [ 1, 0 ] ] 160',
      '[ 3, 8 ]',
      '[\n  0n, 2n, 0n, 0n, 2n,\n  0n, 0n, 2n, 0n, 0n\n] [ 3, 2 ]',
      '[ 3, 16 ] [ 9999n, 5n, 5n ] [ 9999n, 5n, 5n ]',
    ]);
  }).timeout(120_000);
});
