import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { JsonObject, Launch } from './case';
import type { ResultValue } from './compare';

/** An adapter that crashed, answered nonsense, reported an error, or took too long. */
export class AdapterError extends Error {
  override readonly name = 'AdapterError';
}

/** The answer to `prepare`. */
export interface PrepareReply {
  /** Versions of what the implementation runs on, by name. */
  readonly versions: Readonly<Record<string, string>>;
}

/** The answer to `run`. */
export interface RunReply {
  /** Wall-clock seconds of the work, measured by the adapter around it. */
  readonly seconds: number;
  /** How many items (calls, images, …) were done in that time. */
  readonly items: number;
  /** What came out, for the comparison between implementations. */
  readonly result: ResultValue;
  /** Peak resident memory in bytes, when the work is done by a child of the adapter; otherwise the harness looks. */
  readonly peakBytes?: number;
}

/** Settings of an adapter's process. */
export interface AdapterSettings {
  /** Working directory. */
  readonly directory: string;
  /** Additions to the environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Longest wait for one answer, in seconds. */
  readonly timeoutSeconds: number;
}

const STDERR_KEPT = 4000;

/**
 * An implementation in its own process. The harness writes one JSON object a line to its standard input, and reads one
 * a line from its standard output as the answer:
 *
 * | command | answer |
 * |---|---|
 * | `{"command":"prepare","options":{…}}` | `{"versions":{…}}` |
 * | `{"command":"run","options":{…}}` | `{"seconds":…,"items":…,"result":…}` and `peakBytes` if known better |
 * | `{"command":"close"}` | none: the process ends |
 *
 * `{"error":"…"}` is an answer to any of them and fails the case. Standard error is kept for error messages.
 */
export class Adapter {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #exited: Promise<void>;
  readonly #timeoutSeconds: number;
  #errorOutput = '';
  #ending: string | undefined;
  #waiting: { resolve: (line: string) => void; reject: (error: Error) => void } | undefined;

  constructor(
    readonly name: string,
    launch: Launch,
    settings: AdapterSettings,
  ) {
    this.#timeoutSeconds = settings.timeoutSeconds;
    this.#child = spawn(launch.command, launch.arguments, {
      cwd: settings.directory,
      env: { ...process.env, ...settings.environment, ...launch.environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-STDERR_KEPT);
    });
    // Writing to a process that has just died raises EPIPE here; the exit below tells more.
    this.#child.stdin.on('error', () => undefined);
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.resolve(line);
    });
    this.#exited = new Promise((resolve) => {
      const end = (how: string): void => {
        this.#ending ??= how;
        const waiting = this.#waiting;
        this.#waiting = undefined;
        waiting?.reject(this.#failure(this.#ending));
        resolve();
      };
      this.#child.on('error', (error) => {
        end(`could not be started: ${error.message}`);
      });
      // 'close' and not 'exit': by then all of the output has been read.
      this.#child.on('close', (code, signal) => {
        end(signal === null ? `ended with exit code ${code ?? 'unknown'}` : `was ended by signal ${signal}`);
      });
    });
  }

  /** Sends `prepare`; the adapter loads its library and what the case made. */
  async prepare(options: JsonObject): Promise<PrepareReply> {
    const reply = await this.#ask('prepare', options);
    const versions = reply['versions'];
    if (typeof versions !== 'object' || versions === null || Array.isArray(versions)) {
      throw this.#failure('answered prepare without "versions"');
    }
    return { versions: Object.fromEntries(Object.entries(versions).map(([name, value]) => [name, String(value)])) };
  }

  /** Sends `run`; the adapter does the work once and says how long it took. */
  async run(options: JsonObject): Promise<RunReply> {
    const reply = await this.#ask('run', options);
    const { seconds, items, peakBytes } = reply;
    if (typeof seconds !== 'number' || !(seconds > 0)) throw this.#failure('answered run without positive "seconds"');
    if (typeof items !== 'number' || !(items > 0)) throw this.#failure('answered run without positive "items"');
    if (!('result' in reply)) throw this.#failure('answered run without a "result" to compare');
    return { seconds, items, result: reply['result'], ...(typeof peakBytes === 'number' ? { peakBytes } : {}) };
  }

  /** Peak resident memory of the process so far in bytes, or undefined where the system does not tell (not Linux). */
  peakBytes(): number | undefined {
    return this.#child.pid === undefined ? undefined : peakResidentBytes(this.#child.pid);
  }

  /** Asks the process to end, and ends it after a second if it does not. Never throws. */
  async close(): Promise<void> {
    if (this.#ending === undefined) this.#child.stdin.end('{"command":"close"}\n');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 1000);
    await this.#exited;
    clearTimeout(timer);
  }

  async #ask(command: string, options: JsonObject): Promise<Record<string, ResultValue>> {
    if (this.#ending !== undefined) throw this.#failure(this.#ending);
    let timer: NodeJS.Timeout | undefined;
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      timer = setTimeout(() => {
        this.#waiting = undefined;
        this.#child.kill('SIGKILL');
        reject(this.#failure(`did not answer ${command} within ${this.#timeoutSeconds} s`));
      }, this.#timeoutSeconds * 1000);
      this.#child.stdin.write(`${JSON.stringify({ command, options })}\n`);
    }).finally(() => {
      clearTimeout(timer);
    });
    let reply: unknown;
    try {
      reply = JSON.parse(line);
    } catch {
      throw this.#failure(`answered ${command} with something that is not JSON: ${line.slice(0, 200)}`);
    }
    if (typeof reply !== 'object' || reply === null || Array.isArray(reply)) {
      throw this.#failure(`answered ${command} with something that is not an object: ${line.slice(0, 200)}`);
    }
    if ('error' in reply) throw this.#failure(`reports: ${String(reply.error)}`);
    return reply as Record<string, ResultValue>;
  }

  #failure(what: string): AdapterError {
    const output = this.#errorOutput.trim();
    return new AdapterError(`${this.name} ${what}${output === '' ? '' : `\n--- its standard error ---\n${output}`}`);
  }
}

/** The high-water mark of a process's resident memory (`VmHWM`) in bytes; undefined where there is no `/proc`. */
export function peakResidentBytes(pid: number | 'self'): number | undefined {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return undefined;
  }
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}
