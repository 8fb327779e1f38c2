/**
 * How late the main thread's timers are while a worker trains: the delay beyond the asked-for time of a timer that is set anew every
 * 5 ms, without training, and while the quickstart's network trains in a worker thread on all processors.
 *
 *     npx ts-node --transpile-only bench/event-loop/run.ts [--seconds 20] [--out bench/results/event-loop.json]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { writeFileAtomic } from '../../src/torch/files';
import { describeCommit, describeMachine } from '../harness/machine';

const interval = 5;

interface Delays {
  timers: number;
  median: number;
  p99: number;
  max: number;
}

/** Sets a timer again and again until `isOver`; gives how late each was, in milliseconds. */
async function measure(isOver: () => boolean): Promise<Delays> {
  const delays: number[] = [];
  while (!isOver()) {
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, interval));
    delays.push(performance.now() - start - interval);
  }
  delays.sort((a, b) => a - b);
  const at = (part: number): number => Number(delays[Math.floor(part * (delays.length - 1))]!.toFixed(3));
  return { timers: delays.length, median: at(0.5), p99: at(0.99), max: at(1) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { seconds: { type: 'string' }, out: { type: 'string' } } });
  const milliseconds = Number(values.seconds ?? '20') * 1000;
  const machine = describeMachine();
  const end = performance.now() + milliseconds;
  const idle = await measure(() => performance.now() >= end);

  const worker = new Worker(
    `require('ts-node/register/transpile-only'); require(${JSON.stringify(join(__dirname, 'worker.ts'))});`,
    { eval: true, workerData: { threads: availableParallelism(), milliseconds } },
  );
  let steps: number | undefined;
  worker.on('error', (error) => {
    throw error;
  });
  await new Promise((resolve) => worker.once('message', resolve));
  worker.once('message', (count: number) => (steps = count));
  const training = await measure(() => steps !== undefined);
  await worker.terminate();
  const result = { machine, commit: describeCommit(join(__dirname, '..', '..')), idle, training, steps };
  process.stdout.write(`${JSON.stringify({ idle, training, steps }, null, 1)}\n`);
  process.stdout.write(
    `goal: 99 % of the timers less than 20 ms late while training: ${training.p99 < 20 ? 'reached' : 'missed'}\n`,
  );
  if (values.out !== undefined) writeFileAtomic(values.out, `${JSON.stringify(result, null, 1)}\n`);
}

void main();
