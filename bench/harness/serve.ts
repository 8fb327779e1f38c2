import { createInterface } from 'node:readline';
import type { RunReply } from './adapter';
import type { JsonObject } from './case';

/** What an adapter written in TypeScript does; see {@link serve}. */
export interface Handlers {
  /** Loads the library and the shared data; returns the versions of what it runs on. */
  prepare(options: JsonObject): Promise<Record<string, string>> | Record<string, string>;
  /** Does the work once, timed. */
  run(options: JsonObject): Promise<RunReply> | RunReply;
}

/** Answers the harness's commands (see `Adapter`) until it says `close` or goes away. */
export async function serve(handlers: Handlers): Promise<void> {
  // Standard output carries the answers, so nothing else may write there.
  console.log = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const { command, options } = JSON.parse(line) as { command: string; options?: JsonObject };
    if (command === 'close') break;
    let reply: object;
    try {
      if (command === 'prepare') reply = { versions: await handlers.prepare(options ?? {}) };
      else if (command === 'run') reply = await handlers.run(options ?? {});
      else reply = { error: `unknown command ${command}` };
    } catch (error) {
      reply = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
  // A library's idle threads or timers must not keep the process.
  process.exit(0);
}
