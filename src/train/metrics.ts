/**
 * The course of a run as JSON lines: one object a line, appended while training runs, so that a killed run keeps all but its
 * last words. Pure: nothing here needs a tensor.
 */
import * as fs from 'node:fs';
import { KontrastError } from '../torch/errors';
import { removeTemporaryFiles, writeFileAtomic } from '../torch/files';

/** What is known after a step. A method adds what it measures, for example `positiveSimilarity`. */
export interface MetricsEntry {
  /** Optimiser steps done, counted from 1. */
  step: number;
  /** Passes over the data, with the fraction of the present one. */
  epoch: number;
  /** The step's loss. */
  loss: number;
  /** The learning rate of the first parameter group in this step. */
  learningRate: number;
  /** Speed since the entry before. */
  imagesPerSecond: number;
  /** The process's resident memory, bytes. */
  residentBytes: number;
  /** Seconds of training, summed over all resumptions. */
  seconds: number;
  [name: string]: number;
}

/** Writes a run's metrics file. */
export class MetricsFile {
  private readonly file: number;

  /**
   * Opens the file for appending.
   *
   * @param options.resumeAt Keep the entries up to this step and drop later ones, and a line that a crash cut in two: the steps
   *   after the checkpoint are about to be done again. Default 0: start an empty file.
   */
  constructor(
    readonly path: string,
    { resumeAt = 0 }: { resumeAt?: number } = {},
  ) {
    const kept = resumeAt > 0 && fs.existsSync(path) ? readMetrics(path).filter(({ step }) => step <= resumeAt) : [];
    writeFileAtomic(path, kept.map(formatEntry).join(''));
    removeTemporaryFiles(path);
    this.file = fs.openSync(path, 'a');
  }

  /** Appends one entry. Values that JSON lacks (NaN, infinities) become null. */
  append(entry: MetricsEntry): void {
    fs.writeSync(this.file, formatEntry(entry));
  }

  /** Flushes to the disk: called before a checkpoint is written, so that a checkpoint never knows more than the metrics. */
  sync(): void {
    fs.fsyncSync(this.file);
  }

  /** Closes the file. */
  close(): void {
    fs.closeSync(this.file);
  }
}

/**
 * Reads a metrics file. A last line without an end, as a crash leaves it, is skipped; where a value was not finite it is NaN.
 *
 * @throws {KontrastError} code `METRICS` for any other line that is not an entry; names file and line.
 */
export function readMetrics(path: string): MetricsEntry[] {
  const lines = fs.readFileSync(path, 'utf8').split('\n');
  lines.pop(); // What follows the last line end: nothing, or half a line.
  return lines.map((line, index) => {
    try {
      const entry = JSON.parse(line) as Record<string, number | null>;
      const { step } = entry;
      if (typeof step !== 'number') throw new Error('it has no step');
      return Object.fromEntries(Object.entries(entry).map(([name, value]) => [name, value ?? NaN])) as MetricsEntry;
    } catch (error) {
      const message = `'${path}', line ${index + 1}, is not a metrics entry: ${(error as Error).message}; delete that line, or the file`;
      throw new KontrastError(message, { code: 'METRICS', cause: error });
    }
  });
}

function formatEntry(entry: MetricsEntry): string {
  return `${JSON.stringify(entry)}\n`;
}
