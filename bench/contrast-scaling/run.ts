/**
 * How time and memory of symmetric InfoNCE, forward and backward, grow with the batch: N embeddings of 128 numbers on each side, in float32,
 * from 64 to 131,072; the dense form as far as memory goes. Where the two times cross, `auto` goes from one to the other. Writes a table as
 * JSON and a plot of it beside.
 *
 *     npx ts-node --transpile-only bench/contrast-scaling/run.ts [--most 131072] [--out bench/results/contrast-scaling.json]
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { contrast, type Execution } from '../../src/contrast';
import { functional } from '../../src/nn';
import { getThreads, grad, scope, torch } from '../../src/torch';
import { writeFileAtomic } from '../../src/torch/files';
import { describeCommit, describeMachine } from '../harness/machine';
import { median } from '../harness/statistics';
import { plot } from './plot';

const DIMENSION = 128;
const DENSE_MOST = 8192;

export interface Row {
  count: number;
  execution: Execution;
  /** Of one step: the median of those done. */
  seconds: number;
  /** Resident memory at the process's peak, beyond what it was before, with the embeddings, and beyond their gradients. */
  bytes: number;
}

function measure(count: number, execution: Execution): Row {
  return scope(() => {
    const made = (): ReturnType<typeof torch.randn> =>
      functional.normalize(torch.randn([count, DIMENSION])).requiresGrad_();
    const [anchors, others] = [made(), made()];
    const labels = torch.arange(count, { dtype: 'int64' });
    const before = process.memoryUsage.rss();
    const start = performance.now();
    const loss = contrast({
      anchors,
      candidates: { embeddings: others, labels },
      labels,
      similarity: 'dot',
      symmetric: true,
      execution,
    });
    const slopes = grad(loss, [anchors, others]);
    const seconds = (performance.now() - start) / 1000;
    const gradients = slopes.reduce((sum, slope) => sum + 4 * slope!.numel(), 0);
    return { count, execution, seconds, bytes: 1024 * process.resourceUsage().maxRSS - before - gradients };
  });
}

/** The first step's memory, and the median time of as many steps as fit into half a second. */
function measureSteps(count: number, execution: Execution): Row {
  // Kernels are made, and threads started, before.
  measure(256, execution);
  const first = measure(count, execution);
  const times = [first.seconds];
  for (let spent = first.seconds; spent < 0.5; spent += times.at(-1)!) times.push(measure(count, execution).seconds);
  return { ...first, seconds: median(times) };
}

/** In a process of its own, whose peak is then this step's. */
function measureApart(count: number, execution: Execution): Row {
  const program = ['-r', 'ts-node/register/transpile-only', __filename, '--one', JSON.stringify([count, execution])];
  const child = spawnSync(process.execPath, program, { encoding: 'utf8' });
  if (child.status !== 0) throw new Error(`N = ${String(count)}, ${execution}: ${child.stderr}`);
  return JSON.parse(child.stdout) as Row;
}

function main(): void {
  const { values } = parseArgs({
    options: { most: { type: 'string', default: '131072' }, out: { type: 'string' }, one: { type: 'string' } },
  });
  if (values.one !== undefined) {
    const [count, execution] = JSON.parse(values.one) as [number, Execution];
    console.log(JSON.stringify(measureSteps(count, execution)));
    return;
  }
  const rows: Row[] = [];
  for (const execution of ['tiled', 'dense'] as const) {
    for (let count = 64; count <= Number(values.most); count *= 2) {
      if (execution === 'dense' && count > DENSE_MOST) break;
      const runs = Array.from({ length: count <= 16384 ? 3 : 1 }, () => measureApart(count, execution));
      const best = runs.reduce((a, b) => (b.seconds < a.seconds ? b : a));
      rows.push(best);
      const time = `${best.seconds.toPrecision(3)} s`;
      const size = `${(best.bytes / 2 ** 20).toFixed(1)} MiB`;
      console.log(`${execution}  N = ${String(count).padStart(6)}  ${time.padStart(9)}  ${size.padStart(11)}`);
    }
  }
  if (values.out === undefined) return;
  const result = { dimension: DIMENSION, dtype: 'float32', threads: getThreads(), rows };
  const about = { date: new Date().toISOString(), commit: describeCommit(process.cwd()) ?? null };
  writeFileAtomic(values.out, `${JSON.stringify({ ...about, machine: describeMachine(), ...result }, null, 1)}\n`);
  writeFileAtomic(values.out.replace(/\.json$/, '.svg'), plot(rows));
}

main();
