import type { Tolerance } from './compare';

/** Anything that JSON can carry between the harness and an adapter. */
export type Json = number | string | boolean | null | Json[] | { [name: string]: Json };
/** Options as they are sent to adapters. */
export type JsonObject = { [name: string]: Json };

/** How to start an adapter: a program, its arguments, and additions to the environment. */
export interface Launch {
  readonly command: string;
  readonly arguments: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** One of the things compared: a library, or a way to use it. It runs in a process of its own. */
export interface Implementation {
  readonly name: string;
  /** How to start it, or why it cannot be started here (it is then skipped, and the reason is shown). */
  readonly launch: () => Launch | { readonly unavailable: string };
  /** Sent with `prepare`, after the case's own options. */
  readonly options?: JsonObject;
  /** Replaces the case's tolerance: for an implementation that computes at another precision on purpose. */
  readonly tolerance?: Tolerance;
}

/** One measured piece of work. All implementations of the case do it. */
export interface Task {
  readonly name: string;
  /** Sent with every `run`. */
  readonly options: JsonObject;
}

/** A number to reach, judged by the median over the rounds. */
export type Goal =
  /** Seconds per item of one implementation. */
  | { readonly kind: 'time'; readonly task: string; readonly implementation: string; readonly atMost: number }
  /** Its time divided by another's in the same round. */
  | {
      readonly kind: 'time ratio';
      readonly task: string;
      readonly implementation: string;
      readonly against: string;
      readonly atMost: number;
    }
  /** Its items per second divided by another's in the same round. */
  | {
      readonly kind: 'speed ratio';
      readonly task: string;
      readonly implementation: string;
      readonly against: string;
      readonly atLeast: number;
    }
  /** The median over all tasks of its time divided by another's in the same round. */
  | {
      readonly kind: 'median time ratio';
      readonly implementation: string;
      readonly against: string;
      readonly atMost: number;
    };

/** Two implementations whose times are divided, task by task. */
export interface Comparison {
  readonly implementation: string;
  readonly against: string;
}

/** What a case's `prepare` is told. */
export interface Preparation {
  /** A temporary folder, removed after the run. */
  readonly folder: string;
  /** The repository's root. */
  readonly root: string;
  /** Threads that every implementation uses. */
  readonly threads: number;
}

/** A benchmark: `bench/cases/<name>/case.ts` exports one as `benchmark`. */
export interface Case {
  readonly name: string;
  /** One sentence on what is measured. */
  readonly title: string;
  /** What an item is, in the singular: `call`, `image`, … */
  readonly unit: string;
  /** Rounds whose times count; each round runs every implementation once. */
  readonly rounds: number;
  /** Rounds before them whose times do not count. Their results are compared all the same. */
  readonly warmup: number;
  /** Threads of every implementation, where the case is about something else; `--threads` then does not matter. */
  readonly threads?: number;
  readonly tasks: readonly Task[];
  readonly implementations: readonly Implementation[];
  /** The implementation that the others' results and speeds are compared with. */
  readonly reference: string;
  readonly tolerance: Tolerance;
  readonly goals: readonly Goal[];
  /** What is shown in a table of its own, with the median over all tasks. */
  readonly comparisons?: readonly Comparison[];
  /** Makes what the adapters share (weights, batches); what it returns is sent with their `prepare`. */
  readonly prepare?: (preparation: Preparation) => Promise<JsonObject> | JsonObject;
}
