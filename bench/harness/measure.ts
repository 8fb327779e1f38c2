import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Adapter, type RunReply } from './adapter';
import type { Case, Comparison, Goal, Implementation, Task } from './case';
import { firstDifference } from './compare';
import { type Summary, median, pairedRatios, summarize } from './statistics';

/** Settings of one benchmark run. */
export interface MeasureSettings {
  /** The repository's root: the adapters' working directory. */
  readonly root: string;
  /** Rounds whose times count; the case's own number by default. */
  readonly rounds?: number;
  /** Threads of every implementation, unless the case has its own number. */
  readonly threads: number;
  /** Longest wait for one answer of an adapter, in seconds. */
  readonly timeoutSeconds: number;
  /** Told what is going on, a line at a time. */
  readonly log: (line: string) => void;
}

/** What became of an implementation. */
export type ImplementationReport =
  | {
      readonly name: string;
      readonly status: 'measured';
      readonly versions: Readonly<Record<string, string>>;
      /** Peak resident memory over all tasks in bytes; null where the system does not tell. */
      readonly peakBytes: number | null;
    }
  | { readonly name: string; readonly status: 'skipped'; readonly reason: string };

/** The times of one implementation at one task. */
export interface Measurement {
  readonly task: string;
  readonly implementation: string;
  /** Seconds for one item, round by round. */
  readonly secondsPerItem: readonly number[];
  readonly time: Summary;
  /** Items per second at the median time. */
  readonly itemsPerSecond: number;
  /**
   * Speed relative to the reference, pair by pair: the reference's time divided by this one's in the same round.
   * Null for the reference itself and where it was skipped.
   */
  readonly speedRatio: Summary | null;
}

/** The times of one implementation divided by those of another. */
export interface ComparisonReport extends Comparison {
  /** The median of the ratios pair by pair, task by task. */
  readonly ratios: readonly { readonly task: string; readonly ratio: number }[];
  /** The median over the tasks. */
  readonly median: number;
}

/** A goal and what was reached. `value` is null and `met` undefined where it could not be judged. */
export type JudgedGoal = Goal & { readonly value: number | null; readonly met: boolean | null };

/** Everything that a benchmark run found. */
export interface CaseReport {
  readonly implementations: readonly ImplementationReport[];
  readonly measurements: readonly Measurement[];
  readonly goals: readonly JudgedGoal[];
  /** Those that the case asks for and whose implementations both ran. */
  readonly comparisons: readonly ComparisonReport[];
  readonly rounds: number;
  readonly warmup: number;
}

/** Implementations whose results differ: their times would compare different work, so there are none. */
export class MismatchError extends Error {
  override readonly name = 'MismatchError';
}

/**
 * The order of a task's runs: every implementation once, then every implementation again (A B A B …), warm-up rounds
 * first. Alternating spreads whatever else the machine does over all of them alike.
 */
export function schedule(
  names: readonly string[],
  warmup: number,
  rounds: number,
): { readonly name: string; readonly round: number; readonly counts: boolean }[] {
  return Array.from({ length: warmup + rounds }, (_, index) =>
    names.map((name) => ({ name, round: index, counts: index >= warmup })),
  ).flat();
}

/**
 * Runs a case: starts the adapters, and for every task runs them in turn, comparing results after every round.
 *
 * @throws AdapterError when an adapter fails, MismatchError when results differ. No times are reported then.
 */
export async function measure(benchmark: Case, settings: MeasureSettings): Promise<CaseReport> {
  const rounds = settings.rounds ?? benchmark.rounds;
  const threads = benchmark.threads ?? settings.threads;
  const skipped = new Map<string, string>();
  const adapters = new Map<string, Adapter>();
  const versions = new Map<string, Readonly<Record<string, string>>>();
  const folder = mkdtempSync(path.join(os.tmpdir(), `kontrast-bench-${benchmark.name}-`));
  try {
    const shared = (await benchmark.prepare?.({ folder, root: settings.root, threads })) ?? {};
    for (const implementation of benchmark.implementations) {
      const launch = implementation.launch();
      if ('unavailable' in launch) {
        skipped.set(implementation.name, launch.unavailable);
        settings.log(`${implementation.name}: skipped, ${launch.unavailable}`);
        continue;
      }
      const adapter = new Adapter(implementation.name, launch, {
        directory: settings.root,
        environment: { OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) },
        timeoutSeconds: settings.timeoutSeconds,
      });
      adapters.set(implementation.name, adapter);
      const reply = await adapter.prepare({ threads, ...shared, ...implementation.options });
      versions.set(implementation.name, reply.versions);
    }
    const peaks = new Map<string, number>();
    const times = new Map<Task, Map<string, number[]>>();
    for (const task of benchmark.tasks) {
      settings.log(`${task.name}: ${benchmark.warmup} rounds of warm-up, then ${rounds}`);
      times.set(task, await measureTask(benchmark, task, adapters, rounds, peaks));
    }
    for (const [name, adapter] of adapters) {
      const bytes = adapter.peakBytes();
      if (!peaks.has(name) && bytes !== undefined) peaks.set(name, bytes);
    }
    const measurements = [...times].flatMap(([task, byName]) => toMeasurements(benchmark, task, byName));
    return {
      implementations: benchmark.implementations.map(({ name }) => {
        const reason = skipped.get(name);
        if (reason !== undefined) return { name, status: 'skipped', reason };
        return { name, status: 'measured', versions: versions.get(name) ?? {}, peakBytes: peaks.get(name) ?? null };
      }),
      measurements,
      goals: benchmark.goals.map((goal) => judge(goal, measurements)),
      comparisons: (benchmark.comparisons ?? []).flatMap((comparison) => compareTimes(comparison, measurements) ?? []),
      rounds,
      warmup: benchmark.warmup,
    };
  } finally {
    await Promise.all([...adapters.values()].map((adapter) => adapter.close()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs one task on all adapters; seconds per item, by implementation. Notes peaks that adapters report themselves. */
async function measureTask(
  benchmark: Case,
  task: Task,
  adapters: ReadonlyMap<string, Adapter>,
  rounds: number,
  peaks: Map<string, number>,
): Promise<Map<string, number[]>> {
  const names = [...adapters.keys()];
  const times = new Map<string, number[]>(names.map((name) => [name, []]));
  let replies = new Map<string, RunReply>();
  for (const { name, counts } of schedule(names, benchmark.warmup, rounds)) {
    const reply = await adapters.get(name)!.run(task.options);
    if (reply.peakBytes !== undefined) peaks.set(name, Math.max(peaks.get(name) ?? 0, reply.peakBytes));
    if (counts) times.get(name)!.push(reply.seconds / reply.items);
    replies.set(name, reply);
    if (replies.size === names.length) {
      compareRound(benchmark, task, replies);
      replies = new Map();
    }
  }
  return times;
}

function compareRound(benchmark: Case, task: Task, replies: ReadonlyMap<string, RunReply>): void {
  // Where the reference is skipped, those that run are still compared with each other.
  const present = benchmark.implementations.filter(({ name }) => replies.has(name));
  const expected = present.find(({ name }) => name === benchmark.reference) ?? present.at(0);
  if (expected === undefined) return;
  for (const implementation of present) {
    const difference = firstDifference(
      replies.get(expected.name)?.result,
      replies.get(implementation.name)?.result,
      toleranceBetween(benchmark, expected, implementation),
    );
    if (difference !== undefined) {
      throw new MismatchError(
        `${benchmark.name}, ${task.name}: ${implementation.name} differs from ${expected.name}; ${difference}`,
      );
    }
  }
}

function toleranceBetween(benchmark: Case, a: Implementation, b: Implementation): Case['tolerance'] {
  const tolerances = [a.tolerance ?? benchmark.tolerance, b.tolerance ?? benchmark.tolerance];
  return {
    relative: Math.max(...tolerances.map(({ relative }) => relative)),
    absolute: Math.max(...tolerances.map(({ absolute }) => absolute)),
  };
}

function toMeasurements(benchmark: Case, task: Task, times: ReadonlyMap<string, number[]>): Measurement[] {
  const reference = times.get(benchmark.reference);
  return [...times].map(([name, seconds]) => ({
    task: task.name,
    implementation: name,
    secondsPerItem: seconds,
    time: summarize(seconds),
    itemsPerSecond: 1 / median(seconds),
    speedRatio:
      reference === undefined || name === benchmark.reference ? null : summarize(pairedRatios(reference, seconds)),
  }));
}

/** Divides the times of two implementations, task by task; undefined where one of them was skipped. */
export function compareTimes(
  { implementation, against }: Comparison,
  measurements: readonly Measurement[],
): ComparisonReport | undefined {
  const own = measurements.filter((one) => one.implementation === implementation);
  const ratios = own.flatMap(({ task, secondsPerItem }) => {
    const other = measurements.find((one) => one.task === task && one.implementation === against);
    return other === undefined ? [] : [{ task, ratio: median(pairedRatios(secondsPerItem, other.secondsPerItem)) }];
  });
  if (ratios.length === 0) return undefined;
  return { implementation, against, ratios, median: median(ratios.map(({ ratio }) => ratio)) };
}

/** Judges a goal by medians; by nothing where an implementation that it speaks of was skipped. */
export function judge(goal: Goal, measurements: readonly Measurement[]): JudgedGoal {
  if (goal.kind === 'median time ratio') {
    const value = compareTimes(goal, measurements)?.median;
    return value === undefined ? { ...goal, value: null, met: null } : { ...goal, value, met: value <= goal.atMost };
  }
  const secondsOf = (implementation: string): readonly number[] | undefined =>
    measurements.find((one) => one.task === goal.task && one.implementation === implementation)?.secondsPerItem;
  const own = secondsOf(goal.implementation);
  const other = goal.kind === 'time' ? undefined : secondsOf(goal.against);
  if (own === undefined || (goal.kind !== 'time' && other === undefined)) return { ...goal, value: null, met: null };
  if (goal.kind === 'time') {
    const value = median(own);
    return { ...goal, value, met: value <= goal.atMost };
  }
  if (goal.kind === 'time ratio') {
    const value = median(pairedRatios(own, other!));
    return { ...goal, value, met: value <= goal.atMost };
  }
  const value = median(pairedRatios(other!, own));
  return { ...goal, value, met: value >= goal.atLeast };
}
