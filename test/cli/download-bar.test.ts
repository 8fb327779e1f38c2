import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { BarProgress } from '../../src/cli/download-bar';

describe('a download as a bar', () => {
  it('shows the part that is here and the whole', () => {
    let text = '';
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    });
    const bar = new BarProgress(Object.assign(stream, { isTTY: true, cursorTo: () => true, clearLine: () => true }));
    bar.start(1000e6, 250e6);
    bar.update(500e6);
    bar.stop();
    assert.match(text, /25% {2}250 MB of 1\.0 GB/);
    assert.match(text, /50% {2}500 MB of 1\.0 GB/);
  });
});
