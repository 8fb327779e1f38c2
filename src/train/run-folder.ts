/**
 * The folder that a run owns, and what lies in it:
 *
 * | file | content |
 * |---|---|
 * | `run.json` | which recipe with which options, seed and device: enough to build the same run again |
 * | `metrics.jsonl` | the course of training |
 * | `checkpoint-last.safetensors` | everything needed to go on; older ones beside it when the recipe keeps some |
 * | `evaluation.json` | what the recipe's evaluation found |
 * | `report.html` | the recipe's report |
 * | `lock.…` | while a process trains here: which one, see {@link RunLock} |
 *
 * Pure: nothing here needs a tensor.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import { writeFileAtomic } from '../torch/files';
import { formatOption, optionFlag, type OptionValue } from './options';
import { isLockFile } from './run-lock';

/** What a run is: with this and the recipe's file it can be built again, weights and all. */
export interface RunRecord {
  /** The recipe's name. */
  recipe: string;
  /** The recipe's file, absolute. */
  recipePath: string;
  /** SHA-256 of the recipe's file, to say when it changed since. */
  recipeHash: string;
  /** All options, defaults included. */
  options: Record<string, OptionValue>;
  seed: number;
  device: string;
  /** Threads that LibTorch computes with: another number adds up in another order, so the last bits differ. */
  threads: number;
  /** Version of kontrast. */
  kontrast: string;
  /** Version of Node.js. */
  node: string;
  /** When the run was first started, ISO 8601: tells runs with the same options apart. */
  started: string;
}

/** How to treat a folder that holds a run already. */
export type RunMode =
  /** Refuse. */
  | 'new'
  /** Go on with it. */
  | 'resume'
  /** Remove its files and start over. */
  | 'overwrite';

const RECORD = 'run.json';

/** The files of one run. */
export class RunFolder {
  constructor(readonly path: string) {}

  get record(): string {
    return path.join(this.path, RECORD);
  }
  get metrics(): string {
    return path.join(this.path, 'metrics.jsonl');
  }
  get checkpoint(): string {
    return path.join(this.path, 'checkpoint-last.safetensors');
  }
  get evaluation(): string {
    return path.join(this.path, 'evaluation.json');
  }
  get report(): string {
    return path.join(this.path, 'report.html');
  }

  /** Whether a checkpoint was saved. */
  get hasCheckpoint(): boolean {
    return fs.existsSync(this.checkpoint);
  }

  /**
   * Checks, without changing anything, that a run may start here.
   *
   * @returns The record of the run to go on with; null for a run that starts from the beginning.
   * @throws {InvalidArgumentError} when the folder holds a run and `mode` is `'new'`; when it holds none and `mode` is
   *   `'resume'`; and, whatever the mode, when it holds files but no run: they belong to somebody else.
   */
  check(mode: RunMode): RunRecord | null {
    const entries = listEntries(this.path);
    const holdsRun = entries.includes(RECORD);
    if (!holdsRun && mode === 'resume') {
      throw new InvalidArgumentError(
        `there is no run to resume in '${this.path}' (no ${RECORD}): name its folder with --out, or leave --resume out to start one`,
      );
    }
    if (!holdsRun && entries.length > 0) {
      throw new InvalidArgumentError(
        `'${this.path}' has files that are not of a run (${entries.slice(0, 3).join(', ')}${entries.length > 3 ? ', …' : ''}): choose another folder with --out`,
      );
    }
    if (holdsRun && mode === 'new') {
      throw new InvalidArgumentError(
        `'${this.path}' holds a run already: go on with it (--resume), start it over (--overwrite), or choose another folder (--out)`,
      );
    }
    return mode === 'resume' ? readRunRecord(this.record) : null;
  }

  /**
   * Checks that a checkpoint is of the run that `run.json` describes. A folder without one can hold checkpoints of any run.
   *
   * @param checkpoint The checkpoint's file, for the message.
   * @param saved What it says of its run.
   * @throws {InvalidArgumentError} naming both files and what differs.
   */
  checkOwns(checkpoint: string, saved: RunRecord): void {
    if (!fs.existsSync(this.record)) return;
    const differences = compareRecords(saved, readRunRecord(this.record));
    if (differences.length === 0) return;
    throw new InvalidArgumentError(
      `the checkpoint '${checkpoint}' is not of the run that '${this.record}' describes (${differences.join('; ')}): ` +
        'put the checkpoint of that run back, or move this one into a folder of its own to evaluate it',
    );
  }

  /** Makes the folder, removes an earlier run's files and writes the record: the first change on disk of a new run. */
  begin(record: RunRecord): void {
    fs.mkdirSync(this.path, { recursive: true });
    for (const name of listEntries(this.path)) {
      if (isRunFile(name)) fs.rmSync(path.join(this.path, name));
    }
    writeFileAtomic(this.record, `${JSON.stringify(record, null, 2)}\n`);
  }
}

/** The file names that a run writes; nothing else is ever removed. */
function isRunFile(name: string): boolean {
  return /^(run\.json|metrics\.jsonl|evaluation\.json|report\.html|checkpoint-(last|step-\d+)\.safetensors)(\.\d+\.tmp)?$/.test(
    name,
  );
}

/** What the folder holds besides locks. */
function listEntries(folder: string): string[] {
  try {
    return fs
      .readdirSync(folder)
      .filter((name) => !isLockFile(name))
      .sort();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    if (code === 'ENOTDIR') throw new InvalidArgumentError(`'${folder}' is a file: the run needs a folder (--out)`);
    throw new InvalidArgumentError(`cannot read the folder '${folder}': ${message}; choose another with --out`, {
      cause: error,
    });
  }
}

/**
 * What tells the run of a checkpoint from that of a folder. A recipe may have won or lost an option while the run was resumed, so only
 * options that both have are compared.
 */
function compareRecords(saved: RunRecord, folder: RunRecord): string[] {
  const pairs: [string, OptionValue, OptionValue][] = [
    ['recipe', saved.recipe, folder.recipe],
    ...Object.entries(saved.options).map(([name, value]): [string, OptionValue, OptionValue] => [
      optionFlag(name),
      value,
      folder.options[name] ?? value,
    ]),
    ['--seed', saved.seed, folder.seed],
    ['started', saved.started, folder.started],
  ];
  return pairs
    .filter(([, ours, theirs]) => formatOption(ours) !== formatOption(theirs))
    .map(([name, ours, theirs]) => `${name}: ${formatOption(ours)} in the checkpoint, ${formatOption(theirs)} there`);
}

/**
 * Reads a run's record.
 *
 * @throws {KontrastError} code `RUN` when the file cannot be read or is not a record.
 */
export function readRunRecord(file: string): RunRecord {
  let value: unknown;
  try {
    value = JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    throw recordError(`cannot read the run's record '${file}': ${(error as Error).message}`, error);
  }
  return checkRunRecord(value, file);
}

/**
 * Checks that a JSON value is a run's record.
 *
 * @param where The file it came from, for the message.
 * @throws {KontrastError} code `RUN`: names the file and the entry.
 */
export function checkRunRecord(value: unknown, where: string): RunRecord {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const kinds: Record<keyof RunRecord, string> = {
    recipe: 'string',
    recipePath: 'string',
    recipeHash: 'string',
    options: 'object',
    seed: 'number',
    device: 'string',
    threads: 'number',
    kontrast: 'string',
    node: 'string',
    started: 'string',
  };
  for (const [name, kind] of Object.entries(kinds)) {
    if (typeof record[name] !== kind || record[name] === null) {
      throw recordError(`'${where}' does not hold a run's record: '${name}' is not a ${kind}`);
    }
  }
  return value as RunRecord;
}

function recordError(what: string, cause?: unknown): KontrastError {
  return new KontrastError(`${what}; put the file back as it was, or start the run over (--overwrite)`, {
    code: 'RUN',
    cause,
  });
}
