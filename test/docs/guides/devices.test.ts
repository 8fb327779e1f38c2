import assert from 'node:assert/strict';
import { runProgramsOf } from '../../support/programs';

describe('the guide to devices', () => {
  it('has programs that run', () => {
    const printed = runProgramsOf('docs/guides/devices.md');
    assert.equal(printed.length, 5);
    assert.match(printed[0]!, /^(cpu|cuda:0)/);
    assert.match(printed[1]!, /milliseconds: \d+\.\d+\n-?\d/);
    assert.match(printed[2]!, /no room for 140737488355328 bytes$/);
    assert.match(printed[3]!, /^(\[ 8, 16 \]\s*){3}$/);
    assert.equal(printed[4], 'true highest');
  }).timeout(120_000);
});
