import assert from 'node:assert/strict';
import { runProgramsOf } from '../../support/programs';

describe('the guide to objectives', () => {
  it('has programs that run', () => {
    const [choose, ...printed] = runProgramsOf('docs/guides/objectives.md');
    const losses = choose!.split('\n').map((line) => Number(line.split(' ')[1]));
    assert.equal(losses.length, 3);
    assert.ok(losses[2]! < losses[0]! - 0.4, losses.join());
    assert.deepEqual(printed, [
      'true',
      '[] [ 32, 16 ] 256',
      'true\ntrue',
      'true\n[ 16, 20 ] true',
      'true\ntrue true',
      '0.100 true',
      'tiled true\n4194304 pairs are 65536 or more: the tiled form is quicker, and smaller\ntrue\nfloat32',
      'true\ntrue',
      'true true\ntrue 20',
      'true true\ntrue',
      'true true',
    ]);
  }).timeout(120_000);
});
