/** Shows how far a download is. */
import { formatBytes } from './bytes';

/** Shows the course of a download. */
export interface DownloadProgress {
  /** @param total Bytes in all. @param done Bytes that are here already. */
  start(total: number, done: number): void;
  /** @param done Bytes that are here, of all files. */
  update(done: number): void;
  stop(): void;
}

/** A line for every tenth. */
export class LineProgress implements DownloadProgress {
  private total = 0;
  private tenths = 0;

  constructor(private readonly log: (line: string) => void) {}

  start(total: number, done: number): void {
    this.total = total;
    this.tenths = total > 0 ? Math.floor((10 * done) / total) : 0;
  }

  update(done: number): void {
    // Where no size is known there are no tenths.
    const tenths = this.total > 0 ? Math.floor((10 * done) / this.total) : 0;
    if (tenths <= this.tenths) return;
    this.tenths = tenths;
    this.log(`downloaded ${10 * tenths}% of ${formatBytes(this.total)}`);
  }

  stop(): void {
    // Each line is complete as it was written.
  }
}
