/**
 * The memory of `gradCache`, beside PyTorch at once and in chunks: for a batch that grows in chunks of 256, and for one batch in 1 to 64 chunks.
 * Also whether every parameter's gradient is the whole batch's, with dropout on. Every row has a process of its own, whose peak is then this
 * step's. Takes a minute or two; says which goals were met, and ends with 1 if one was not.
 *
 *     npx ts-node --transpile-only bench/cases/gradcache/memory.ts [--threads 2] [--out bench/results/gradcache-memory.json]
 *
 * Of a step's memory two parts are told apart, both in bytes of LibTorch's tensors beyond parameters and inputs. *Activations* are what encoders
 * hold at once, and should follow from the size of a chunk alone. The *objective* holds all embeddings, the gradients by them and its own
 * work, and should follow from the size of the batch alone. Each is called flat where the greatest of a series is at most 1.1 of the least.
 * What the process grew by is the only number that PyTorch has too; it is too small by what the process had free before, a few MiB.
 */
import os from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../../../src/torch/files';
import { Adapter } from '../../harness/adapter';
import type { Implementation, JsonObject } from '../../harness/case';
import { describeCommit, describeMachine } from '../../harness/machine';
import { ours, peers } from './case';
import { BATCH, CHUNK, MOST_CHUNKS } from './work';

const ROOT = path.resolve(__dirname, '../../..');
const MOST_DIFFERENCE = 1e-6;
const FLAT = 1.1;

interface Row {
  name: string;
  batch: number;
  chunks: number;
  /** Of a pair: the least of two steps'. */
  seconds: number;
  /** What the process grew by, at its peak. */
  resident: number;
  /** For ours: the most that LibTorch's tensors took, and its parts. */
  peak?: number;
  activations?: number;
  objective?: number;
}

const kontrast: Implementation = { name: 'kontrast', launch: ours };
const doubling = Array.from({ length: Math.log2(MOST_CHUNKS) + 1 }, (_, i) => 2 ** i);

/** A process that has made its kernels and threads; undefined, and said so, where it can't be started. */
async function start({ name, launch, options }: Implementation, threads: number): Promise<Adapter | undefined> {
  const how = launch();
  if ('unavailable' in how) {
    console.log(`${name}: skipped, ${how.unavailable}`);
    return undefined;
  }
  const environment = { OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) };
  const adapter = new Adapter(name, how, { directory: ROOT, environment, timeoutSeconds: 300 });
  await adapter.prepare({ threads, ...options });
  await adapter.run({ batch: 16, chunks: 2 });
  return adapter;
}

async function inProcess<T>(
  implementation: Implementation,
  threads: number,
  body: (adapter: Adapter) => Promise<T>,
): Promise<T | undefined> {
  const adapter = await start(implementation, threads);
  if (adapter === undefined) return undefined;
  try {
    return await body(adapter);
  } finally {
    await adapter.close();
  }
}

function measure(
  implementation: Implementation,
  threads: number,
  batch: number,
  chunks: number,
): Promise<Row | undefined> {
  const work: JsonObject = { batch, chunks };
  return inProcess(implementation, threads, async (adapter) => {
    const first = await adapter.run({ ...work, ask: 'memory' });
    const again = await adapter.run(work);
    const seconds = Math.min(first.seconds, again.seconds) / batch;
    return { name: implementation.name, batch, chunks, seconds, ...(first.result as { resident: number }) };
  });
}

function tableOf(rows: readonly Row[]): string {
  const mebibytes = (bytes?: number): string => (bytes === undefined ? '' : `${(bytes / 2 ** 20).toFixed(1)} MiB`);
  const table = new Table({
    head: ['', 'pairs', 'chunks', 'time per pair', 'activations', 'objective', 'tensors', 'process'],
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
    colAligns: ['left', ...Array.from({ length: 7 }, () => 'right' as const)],
  });
  for (const { name, batch, chunks, seconds, ...bytes } of rows) {
    const time = `${(seconds * 1e6).toFixed(0)} µs`;
    const parts = [bytes.activations, bytes.objective, bytes.peak, bytes.resident].map(mebibytes);
    table.push([name, batch.toLocaleString('en'), chunks, time, ...parts]);
  }
  return table.toString();
}

/** The greatest of a series by the least. */
function spread(rows: readonly Row[], part: 'activations' | 'objective'): number {
  const values = rows.map((row) => row[part]!);
  return Math.max(...values) / Math.min(...values);
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { threads: { type: 'string' }, out: { type: 'string' } } });
  const threads = Number(values.threads ?? os.availableParallelism());
  const machine = describeMachine();
  const series = async (of: Implementation, tasks: readonly (readonly [number, number])[]): Promise<Row[]> => {
    const rows: Row[] = [];
    for (const [batch, chunks] of tasks) {
      const row = await measure(of, threads, batch, chunks);
      if (row === undefined) break;
      rows.push(row);
      console.error(`${of.name}: ${String(batch)} pairs in ${String(chunks)} chunks`);
    }
    return rows;
  };
  const ofOneSize = doubling.map((chunks) => [chunks * CHUNK, chunks] as const);
  const growing = await series(kontrast, ofOneSize);
  const beside: Row[] = [];
  for (const peer of peers) {
    // At once and with a matrix of all scores, larger batches are a matter of gigabytes.
    const small = ofOneSize.filter(([batch, chunks]) => batch <= BATCH && Number.isInteger(Math.log2(chunks) / 2));
    beside.push(...(await series(peer, small)));
  }
  const ofOneBatch = doubling.map((chunks) => [BATCH, chunks] as const);
  const cut = await series(kontrast, ofOneBatch);
  const gradients = await inProcess(kontrast, threads, async (adapter) => {
    const { result } = await adapter.run({ batch: BATCH, chunks: MOST_CHUNKS, ask: 'gradients' });
    return result as Record<string, number>;
  });
  console.log(`a batch that grows, in chunks of ${String(CHUNK)}\n${tableOf([...growing, ...beside])}`);
  console.log(`one batch, in more and more chunks\n${tableOf(cut)}`);
  const worst = Math.max(...Object.values(gradients!));
  const goals = [
    {
      what: `gradients of ${String(MOST_CHUNKS)} chunks and of the whole, worst parameter`,
      value: worst,
      atMost: MOST_DIFFERENCE,
    },
    { what: 'activations, chunks of one size, greatest ÷ least', value: spread(growing, 'activations'), atMost: FLAT },
    { what: 'objective, one batch, greatest ÷ least', value: spread(cut, 'objective'), atMost: FLAT },
  ];
  for (const { what, value, atMost } of goals) {
    console.log(`goal ${value <= atMost ? 'met' : 'MISSED'}: ${what}: ${value.toPrecision(3)}, at most ${atMost}`);
  }
  if (values.out !== undefined) {
    const about = { date: new Date().toISOString(), commit: describeCommit(ROOT) ?? null, machine, threads };
    writeFileAtomic(values.out, `${JSON.stringify({ ...about, growing, beside, cut, gradients, goals }, null, 1)}\n`);
  }
  return goals.every(({ value, atMost }) => value <= atMost) ? 0 : 1;
}

void main().then((code) => {
  process.exitCode = code;
});
