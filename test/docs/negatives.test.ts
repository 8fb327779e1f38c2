import assert from 'node:assert/strict';
import { runProgramsOf } from '../support/programs';

describe('the page on negatives', () => {
  it('has a program that mixes harder negatives, learns and resumes', () => {
    const [printed, ...others] = runProgramsOf('docs/negatives.md');
    assert.equal(others.length, 0);
    const lines = printed!.split('\n');
    assert.equal(lines.pop(), '1 true');
    const losses = lines.map((line) => Number(line.split(' ')[1]));
    assert.equal(losses.length, 4);
    // The first epoch is without mixes, which make the loss larger; training makes it smaller again.
    assert.ok(losses[1]! > losses[0]! + 0.2, losses.join());
    assert.ok(losses[3]! < losses[1]! - 0.1, losses.join());
  }).timeout(120_000);
});
