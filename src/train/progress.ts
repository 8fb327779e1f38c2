/// <reference types="node" preserve="true" />
/** How a run shows that it is alive: a bar on a terminal, a line now and then elsewhere. Pure: nothing here needs a tensor. */
import { SingleBar } from 'cli-progress';

/** What is shown after a step. */
export interface ProgressState {
  /** Steps done. */
  step: number;
  /** Passes over the data, with the fraction of the present one. */
  epoch: number;
  loss: number;
  learningRate: number;
  /** Speed over the last seconds. */
  imagesPerSecond: number;
  /** Seconds until the last step at the present speed. */
  secondsLeft: number;
}

/** Shows the course of a run. */
export interface Progress {
  /** @param total Steps in all. @param done Steps done before, when a run is resumed. */
  start(total: number, done: number): void;
  update(state: ProgressState): void;
  /** Takes the bar away; the last state stays visible. */
  stop(): void;
}

/** A terminal or anything else that takes text. */
export type ProgressStream = NodeJS.WritableStream & { isTTY?: boolean };

/** Seconds between lines where there is no terminal. */
const LINE_INTERVAL = 10;

/**
 * The progress that suits a stream: a bar on a terminal, otherwise plain lines, one at the first step, one every ten seconds and one
 * at the last step.
 *
 * @param stream Default: standard error, so that standard output holds results only.
 * @param now A clock in milliseconds, for tests.
 */
export function createProgress(
  stream: ProgressStream = process.stderr,
  now: () => number = () => performance.now(),
): Progress {
  return stream.isTTY === true ? new BarProgress(stream) : new LineProgress(stream, now);
}

class BarProgress implements Progress {
  private readonly bar: SingleBar;

  constructor(stream: NodeJS.WritableStream) {
    this.bar = new SingleBar({
      stream,
      format: '{bar} {percentage}%  {text}',
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: false, // A killed process could not bring the cursor back.
      fps: 5,
      linewrap: false,
    });
  }

  start(total: number, done: number): void {
    this.bar.start(total, done, { text: '' });
  }

  update(state: ProgressState): void {
    this.bar.update(state.step, { text: describeState(state, this.bar.getTotal()) });
  }

  stop(): void {
    this.bar.stop();
  }
}

class LineProgress implements Progress {
  private total = 0;
  private last = -Infinity;

  constructor(
    private readonly stream: NodeJS.WritableStream,
    private readonly now: () => number,
  ) {}

  start(total: number): void {
    this.total = total;
  }

  update(state: ProgressState): void {
    const now = this.now();
    if (now - this.last < LINE_INTERVAL * 1000 && state.step < this.total) return;
    this.last = now;
    this.stream.write(`${describeState(state, this.total)}\n`);
  }

  stop(): void {
    // Each line is complete as it was written.
  }
}

function describeState(state: ProgressState, total: number): string {
  return [
    `step ${state.step}/${total}`,
    `epoch ${state.epoch.toFixed(1)}`,
    `loss ${state.loss.toFixed(3)}`,
    `lr ${state.learningRate.toPrecision(2)}`,
    `${Math.round(state.imagesPerSecond)} images/s`,
    state.step >= total ? 'done' : `${formatDuration(state.secondsLeft)} left`,
  ].join('  ');
}

/** `0:05`, `12:34`, `1:02:03`; `?` when it is not known. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = `${String(rest).padStart(2, '0')}`;
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`;
}

/** Images per second over a sliding window, so that the time left follows the machine's present speed. */
export class RateMeter {
  private readonly samples: { time: number; count: number }[] = [];
  private count = 0;

  /** @param windowSeconds Default: 15. */
  constructor(private readonly windowSeconds = 15) {}

  /** Notes that `count` more were done by the time `seconds`. The first call only starts the clock. */
  add(count: number, seconds: number): void {
    this.count += this.samples.length === 0 ? 0 : count;
    this.samples.push({ time: seconds, count: this.count });
    // At least two samples stay, so that steps longer than the window still have a rate.
    while (this.samples.length > 2 && this.samples[1]!.time < seconds - this.windowSeconds) this.samples.shift();
  }

  /** The present rate; NaN before the second call of {@link add}. */
  get perSecond(): number {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    if (first === undefined || last === undefined || last.time <= first.time) return NaN;
    return (last.count - first.count) / (last.time - first.time);
  }
}
