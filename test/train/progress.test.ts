import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { createProgress, formatDuration, RateMeter, type ProgressState } from '../../src/train/progress';

function state(step: number): ProgressState {
  return { step, epoch: step / 4, loss: 1.23456, learningRate: 0.00123, imagesPerSecond: 1234.5, secondsLeft: 65 };
}

function collect(isTTY: boolean): { stream: PassThrough & { isTTY?: boolean }; text: () => string } {
  const stream: PassThrough & { isTTY?: boolean } = new PassThrough();
  stream.isTTY = isTTY;
  return { stream, text: () => (stream.read() as Buffer | null)?.toString() ?? '' };
}

describe('progress', () => {
  it('writes plain lines where there is no terminal: the first step, every ten seconds, the last step', () => {
    const { stream, text } = collect(false);
    let now = 0;
    const progress = createProgress(stream, () => now);
    progress.start(40, 0);
    for (let step = 1; step <= 40; step++) {
      now += 1000;
      progress.update(state(step));
    }
    progress.stop();
    const lines = text().trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => Number(/^step (\d+)\/40 /.exec(line)?.[1])),
      [1, 11, 21, 31, 40],
    );
    assert.equal(lines[1], 'step 11/40  epoch 2.8  loss 1.235  lr 0.0012  1235 images/s  1:05 left');
    assert.match(lines[4]!, /done$/);
  });

  it('draws a bar on a terminal', () => {
    const { stream, text } = collect(true);
    const progress = createProgress(stream);
    progress.start(10, 5);
    progress.update(state(10));
    progress.stop();
    const drawn = text();
    assert.match(drawn, /50%/);
    assert.match(drawn, /100%.*step 10\/10/);
  });

  it('writes durations for people', () => {
    assert.deepEqual([4.6, 59.9, 754, 3723, NaN].map(formatDuration), ['0:05', '1:00', '12:34', '1:02:03', '?']);
  });

  it('measures the rate over the last seconds only', () => {
    const meter = new RateMeter(10);
    assert.ok(Number.isNaN(meter.perSecond));
    for (let second = 0; second <= 20; second++) meter.add(100, second);
    assert.equal(meter.perSecond, 100);
    for (let second = 21; second <= 40; second++) meter.add(300, second);
    assert.equal(meter.perSecond, 300);
  });

  it('has a rate for steps longer than its window', () => {
    const meter = new RateMeter(1);
    meter.add(10, 0);
    meter.add(10, 5);
    meter.add(30, 10);
    assert.equal(meter.perSecond, 6);
  });
});
