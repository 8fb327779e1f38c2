import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { main } from '../../src/cli';

/** How a command ended, and what it wrote. */
export interface Outcome {
  code: number | null;
  signal?: NodeJS.Signals | null;
  out: string;
  err: string;
}

/** Runs the command in this process. */
export async function kontrast(...words: string[]): Promise<Outcome> {
  const written = { out: '', err: '' };
  const streams = [
    ['out', process.stdout],
    ['err', process.stderr],
  ] as const;
  const originals = streams.map(([, stream]) => stream.write.bind(stream));
  for (const [name, stream] of streams) {
    stream.write = ((chunk: string | Uint8Array) => {
      written[name] += String(chunk);
      return true;
    }) as typeof stream.write;
  }
  try {
    return { code: await main(['node', 'kontrast', ...words]), ...written };
  } finally {
    streams.forEach(([, stream], index) => (stream.write = originals[index] as typeof stream.write));
  }
}

/** Starts the command as a process of its own. */
export function startKontrast(...words: string[]): { child: ChildProcess; outcome: Promise<Outcome> } {
  const child = spawn(
    process.execPath,
    ['-r', 'ts-node/register/transpile-only', path.join(__dirname, 'kontrast.ts'), ...words],
    { cwd: path.resolve(__dirname, '..', '..'), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, out, err }));
  });
  return { child, outcome };
}

/** Waits until a run has written metrics up to a step, or has ended. */
export async function untilStep(folder: string, step: number, outcome: Promise<Outcome>): Promise<void> {
  let ended: Outcome | undefined;
  void outcome.then((result) => (ended = result));
  const metrics = path.join(folder, 'metrics.jsonl');
  for (;;) {
    if (ended !== undefined) throw new Error(`the run ended before step ${step}: ${ended.err}`);
    const text = fs.existsSync(metrics) ? fs.readFileSync(metrics, 'utf8') : '';
    const steps = [...text.matchAll(/"step":(\d+)/g)].map(([, number]) => Number(number));
    if (Math.max(0, ...steps) >= step) return;
    await sleep(20);
  }
}
