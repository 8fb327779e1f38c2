/**
 * What exact search takes of memory beside queries and keys: the best 100 of 1,000,000 keys of 128 numbers for 4,096 queries. Takes a quarter of a
 * minute; says whether the goal was met, and ends with 1 if it was not. Linux only.
 *
 *     npx ts-node --transpile-only bench/cases/search/memory.ts [--threads 2] [--out bench/results/search-memory.json]
 *
 * *Tensors* is the most that LibTorch's tensors took, results included, *process* what the process grew by at its peak.
 */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { topScores } from '../../../src/nn';
import { memory, noGrad, resetPeakMemory, scope, setThreads } from '../../../src/torch';
import { writeFileAtomic } from '../../../src/torch/files';
import { peakResidentBytes } from '../../harness/adapter';
import { describeCommit, describeMachine } from '../../harness/machine';
import { embeddings } from './embeddings';

const ROOT = path.resolve(__dirname, '../../..');
const [QUERIES, KEYS, DIMENSION, COUNT] = [4096, 1_000_000, 128, 100];
const MOST_MEBIBYTES = 256;

interface Row {
  precision: 'exact' | 'bfloat16';
  tensors: number;
  process: number;
}

/** Lets the peak of this process start anew from what it has now. */
function resetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5');
  resetPeakMemory();
}

const { values } = parseArgs({ options: { threads: { type: 'string' }, out: { type: 'string' } } });
const threads = Number(values.threads ?? os.availableParallelism());
setThreads(threads);
const machine = describeMachine();
const rows = noGrad(() =>
  scope(() => {
    const [queries, keys] = [embeddings(QUERIES, DIMENSION, KEYS), embeddings(KEYS, DIMENSION, 0)];
    // Code and threads that the first search makes are not what searching takes.
    topScores(queries.narrow(0, 0, 8), keys.narrow(0, 0, 512), { count: COUNT });
    return (['exact', 'bfloat16'] as const).map((precision): Row => {
      resetPeak();
      const [tensors, resident] = [memory().cpuBytes, process.memoryUsage.rss()];
      scope(() => void topScores(queries, keys, { count: COUNT, precision }));
      const grown = (peakResidentBytes('self') ?? NaN) - resident;
      return { precision, tensors: memory().peakCpuBytes - tensors, process: grown };
    });
  }),
);
const mebibytes = (bytes: number): number => bytes / 2 ** 20;
let code = 0;
for (const { precision, ...bytes } of rows) {
  const most = mebibytes(Math.max(bytes.tensors, bytes.process));
  if (!(most <= MOST_MEBIBYTES)) code = 1;
  const parts = `tensors ${mebibytes(bytes.tensors).toFixed(1)} MiB, process ${mebibytes(bytes.process).toFixed(1)} MiB`;
  console.log(
    `goal ${most <= MOST_MEBIBYTES ? 'met' : 'MISSED'}: ${precision}: ${parts}, at most ${MOST_MEBIBYTES} MiB`,
  );
}
if (values.out !== undefined) {
  const about = { date: new Date().toISOString(), commit: describeCommit(ROOT) ?? null, machine, threads };
  writeFileAtomic(values.out, `${JSON.stringify({ ...about, rows }, null, 1)}\n`);
}
process.exitCode = code;
