/** A download as a bar on a terminal. */
import { SingleBar } from 'cli-progress';
import type { DownloadProgress } from '../libtorch';
import { formatBytes } from '../libtorch/bytes';

/** One bar over all files. */
export class BarProgress implements DownloadProgress {
  private bar: SingleBar | undefined;

  constructor(private readonly stream: NodeJS.WritableStream) {}

  start(total: number, done: number): void {
    this.bar = new SingleBar({
      stream: this.stream,
      format: `{bar} {percentage}%  {received} of ${formatBytes(total)}  {eta_formatted} left`,
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: false, // A killed process could not bring the cursor back.
      fps: 5,
      linewrap: false,
      etaBuffer: 200,
    });
    this.bar.start(total, done, { received: formatBytes(done) });
  }

  update(done: number): void {
    this.bar?.update(done, { received: formatBytes(done) });
  }

  stop(): void {
    this.bar?.stop();
  }
}
