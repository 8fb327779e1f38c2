import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import Table from 'cli-table3';
import type { Case } from './case';
import type { Commit, Machine } from './machine';
import type { CaseReport, JudgedGoal } from './measure';

/** The content of a file in `bench/results`. */
export interface ResultFile extends CaseReport {
  readonly case: string;
  readonly title: string;
  readonly unit: string;
  /** When the run began, ISO 8601, UTC. */
  readonly date: string;
  readonly commit: Commit | null;
  readonly kontrast: string;
  readonly node: string;
  readonly threads: number;
  readonly machine: Machine;
  readonly machineKind: string;
}

/** A time in the unit that suits it: `1.23 µs`, `45.6 ms`, `7.89 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 1e-6) return `${(seconds * 1e9).toPrecision(3)} ns`;
  if (seconds < 1e-3) return `${(seconds * 1e6).toPrecision(3)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  return `${seconds.toPrecision(3)} s`;
}

/** The run as text for a terminal: where it ran, the times, the goals. */
export function formatReport(result: ResultFile): string {
  const { machine } = result;
  const commit =
    result.commit === null
      ? 'no commit'
      : `${result.commit.hash.slice(0, 10)}${result.commit.modified ? ' + changes' : ''}`;
  const lines = [
    `${result.case}: ${result.title}`,
    `${machine.processor}, ${machine.cores} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ${machine.system}`,
    `${machine.capabilities.join(' ')}; load ${machine.loadAverage.toFixed(2)} before the run`,
    `kontrast ${result.kontrast} (${commit}), Node ${result.node}, ${result.threads} threads, ${result.date}`,
    `${result.rounds} rounds after ${result.warmup} of warm-up`,
  ];
  if (machine.loadAverage > machine.cores / 4) {
    lines.push('NOTE: the machine was busy before the run; trust the ratios more than the times.');
  }
  const table = new Table({
    head: [
      'task',
      'implementation',
      `time per ${result.unit}`,
      'quartiles',
      'minimum',
      `${result.unit}s/s`,
      'speed',
      'quartiles',
    ],
    // One line for one row: no rules between them.
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right', 'right'],
  });
  for (const { task, implementation, time, itemsPerSecond, speedRatio } of result.measurements) {
    table.push([
      task,
      implementation,
      formatSeconds(time.median),
      `${formatSeconds(time.lowerQuartile)} to ${formatSeconds(time.upperQuartile)}`,
      formatSeconds(time.minimum),
      itemsPerSecond.toPrecision(4),
      speedRatio === null ? '' : `${speedRatio.median.toFixed(2)}×`,
      speedRatio === null ? '' : `${speedRatio.lowerQuartile.toFixed(2)} to ${speedRatio.upperQuartile.toFixed(2)}`,
    ]);
  }
  lines.push(table.toString());
  if (result.comparisons.length > 0) lines.push(formatComparisons(result));
  for (const implementation of result.implementations) {
    if (implementation.status === 'skipped') {
      lines.push(`${implementation.name}: skipped, ${implementation.reason}`);
    } else {
      const memory =
        implementation.peakBytes === null ? 'unknown' : `${(implementation.peakBytes / 2 ** 20).toFixed(0)} MiB`;
      const versions = Object.entries(implementation.versions).map(([name, version]) => `${name} ${version}`);
      lines.push(`${implementation.name}: peak memory ${memory}; ${versions.join(', ')}`);
    }
  }
  return [...lines, ...result.goals.map(formatGoal)].join('\n');
}

function formatComparisons({ comparisons }: ResultFile): string {
  const table = new Table({
    head: ['time', ...comparisons.map(({ implementation, against }) => `${implementation} ÷ ${against}`)],
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
    colAligns: ['left', ...comparisons.map(() => 'right' as const)],
  });
  for (const { task } of comparisons[0].ratios) {
    const ratios = comparisons.map(({ ratios }) => ratios.find((one) => one.task === task)?.ratio.toFixed(2) ?? '');
    table.push([task, ...ratios]);
  }
  table.push(['median', ...comparisons.map((comparison) => comparison.median.toFixed(2))]);
  return table.toString();
}

function formatGoal(goal: JudgedGoal): string {
  const verdict = goal.met === null ? 'not judged' : goal.met ? 'met' : 'MISSED';
  if (goal.kind === 'median time ratio') {
    const value = goal.value === null ? '' : `${goal.value.toFixed(2)}, `;
    return `goal ${verdict}: median over the tasks, ${goal.implementation}: time ÷ ${goal.against}: ${value}at most ${goal.atMost}`;
  }
  const subject = `goal ${verdict}: ${goal.task}, ${goal.implementation}`;
  if (goal.kind === 'time') {
    return `${subject}: ${goal.value === null ? '' : `${formatSeconds(goal.value)}, `}at most ${formatSeconds(goal.atMost)}`;
  }
  const value = goal.value === null ? '' : `${goal.value.toFixed(2)}, `;
  return goal.kind === 'time ratio'
    ? `${subject}: time ÷ ${goal.against}: ${value}at most ${goal.atMost}`
    : `${subject}: speed ÷ ${goal.against}: ${value}at least ${goal.atLeast}`;
}

/** Where a run's results are kept: `<case>-<machine kind>-<date>.json` in the results folder. */
export function resultPath(folder: string, result: Pick<ResultFile, 'case' | 'machineKind' | 'date'>): string {
  return path.join(folder, `${result.case}-${result.machineKind}-${result.date.slice(0, 10)}.json`);
}

/** Writes a result file: to a temporary name, synced, then renamed. */
export function writeResult(file: string, result: ResultFile): void {
  mkdirSync(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  const descriptor = openSync(temporary, 'w');
  try {
    writeSync(descriptor, `${JSON.stringify(result, undefined, 2)}\n`);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, file);
}

/** Assembles a result file. */
export function toResult(
  benchmark: Case,
  report: CaseReport,
  about: Omit<ResultFile, keyof CaseReport | 'case' | 'title' | 'unit'>,
): ResultFile {
  return { case: benchmark.name, title: benchmark.title, unit: benchmark.unit, ...about, ...report };
}
