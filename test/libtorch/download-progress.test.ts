import assert from 'node:assert/strict';
import { LineProgress } from '../../src/libtorch/download-progress';

describe('the course of a download in lines', () => {
  it('is a line for every tenth that was downloaded now', () => {
    const lines: string[] = [];
    const progress = new LineProgress((line) => lines.push(line));
    progress.start(1000e6, 250e6);
    for (const done of [260e6, 299e6, 310e6, 320e6, 555e6, 0, 560e6, 1000e6]) progress.update(done);
    progress.stop();
    assert.deepEqual(lines, ['downloaded 30% of 1.0 GB', 'downloaded 50% of 1.0 GB', 'downloaded 100% of 1.0 GB']);
  });

  it('says nothing where sizes are not known', () => {
    const lines: string[] = [];
    const progress = new LineProgress((line) => lines.push(line));
    progress.start(0, 0);
    progress.update(10);
    assert.deepEqual(lines, []);
  });
});
