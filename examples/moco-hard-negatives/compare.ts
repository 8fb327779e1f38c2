/** Trains the recipe beside this file with each kind of negatives, over several seeds: `npx jiti examples/moco-hard-negatives/compare.ts`. */
import { evaluateEncoder } from 'kontrast/evaluate';
import type { MoCo } from 'kontrast/models';
import type { MixedNegatives } from 'kontrast/negatives';
import { functional, type Module } from 'kontrast/nn';
import { dispose, getThreads, manualSeed, noGrad, scope, type Tensor } from 'kontrast/torch';
import { option, parseOptions, resolveOptions, Trainer } from 'kontrast/train';
import recipe from './recipe';

const NAMES = { queue: 'queue', mochi: 'MoCHi', ft: 'FT', both: 'MoCHi and FT' };
type Method = keyof typeof NAMES;

const { negatives: which, ...shared } = recipe.options;
const methods = which.limits.choices as Method[];
const declarations = { seeds: option(3, 'how many seeds', { integer: true, minimum: 1 }), ...shared };
const { seeds, ...options } = resolveOptions(declarations, parseOptions(declarations, process.argv.slice(2)));

/** What one training gave; accuracies in percent. */
interface Outcome {
  kNN: number;
  probe: number;
  /** Mean similarities, as the loss sees them: with positives, the queue, its nearest N, and mixes. */
  positives: number;
  queue: number;
  nearest: number;
  mixes: number;
  /** Of all that negatives add to the softmax's denominator, what mixes add, in percent. */
  mixShare: number;
  /** Milliseconds of processor time, which does not count what else the machine does; the median. */
  step: number;
}

/** One a seed. */
const outcomes: Record<Method, Outcome[]> = { queue: [], mochi: [], ft: [], both: [] };
/** What training has to beat. */
const baselines: Record<string, Pick<Outcome, 'kNN' | 'probe'>[]> = { 'raw pixels': [], 'untrained encoder': [] };

async function train(negatives: Method, seed: number): Promise<void> {
  manualSeed(seed);
  const context = { device: 'cpu', seed, log: (line: string) => console.error(line) } as const;
  const run = await recipe.build({ ...options, negatives }, context);
  const times: number[] = [];
  const progress = { start: () => undefined, update: () => times.push(processorTime()), stop: () => undefined };
  await new Trainer(run, { progress }).run();
  const { untrained, ...evaluation } = run.evaluation!;
  // Raw pixels have no seed, and the untrained encoder is the same for all methods of one.
  const isFirst = negatives === 'queue';
  const { rows, testFeatures } = await evaluateEncoder({
    ...evaluation,
    augmentation: undefined,
    pixels: isFirst && seed === 0,
    untrained: isFirst ? untrained : undefined,
  });
  dispose(testFeatures);
  for (const { name, knn, linearProbe } of rows) {
    const found = { kNN: 100 * knn, probe: 100 * linearProbe! };
    if (name !== 'trained encoder') {
      baselines[name]!.push(found);
      continue;
    }
    const moco = run.state.moco as MoCo;
    const step = median(times.slice(1).map((time, i) => time - times[i]!));
    outcomes[negatives].push({
      ...found,
      ...hardness(moco, () => run.views(run.data.next()) as [Tensor, Tensor]),
      step,
    });
    console.error(`seed ${seed}, ${NAMES[negatives]}: kNN ${found.kNN.toFixed(2)} %, ${step.toFixed(1)} CPU ms a step`);
    moco.dispose();
  }
}

/** How near to the queries of one more batch their positives and negatives are, as the loss sees them after training. */
function hardness(moco: MoCo, views: () => [Tensor, Tensor]): Omit<Outcome, 'kNN' | 'probe' | 'step'> {
  const { mochi, featureTransformation, keep, temperature } = moco.objective as MixedNegatives;
  return noGrad(() =>
    scope(() => {
      const [a, b] = views();
      const embed = (network: Module, x: Tensor): Tensor => functional.normalize(network.forward(x));
      const [q, k, queue] = [embed(moco.pair.query, a), embed(moco.pair.key, b), moco.queue.entries()];
      const seen = featureTransformation?.apply(q, k, queue) ?? { queries: q, keys: k, negatives: queue };
      const scores = seen.queries.matmul(seen.negatives.t());
      const [nearest] = scores.topk(Math.min(options.hardest, scores.sizeOf(1)), 1);
      const mixes = mochi?.negatives(seen.queries, seen.negatives)?.matmul(seen.queries.unsqueeze(2)).squeeze(2);
      const mean = (x: Tensor): number => Number(x.mean().itemSync());
      const mass = (x: Tensor): Tensor => x.div(temperature).exp().sum([1]);
      return {
        positives: mean(seen.queries.mul(seen.keys).sum([1])),
        queue: mean(scores),
        nearest: mean(nearest),
        mixes: mixes === undefined ? NaN : mean(mixes),
        mixShare:
          mixes === undefined
            ? NaN
            : 100 * mean(mass(mixes).div(mass(mixes).add(mass(keep === 'all' ? scores : nearest)))),
      };
    }),
  );
}

/** Milliseconds that this process has computed, all threads together. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function median(numbers: number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;
}

/** Mean and standard deviation over the seeds; a dash where there is nothing. */
function overSeeds(values: number[], digits: number): string {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  if (Number.isNaN(mean)) return '–';
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1);
  return mean.toFixed(digits) + (values.length > 1 ? ` ± ${Math.sqrt(variance).toFixed(digits)}` : '');
}

function printTable(head: string[], rows: string[][]): void {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]!))).join('   ');
  console.log([line(head), widths.map((width) => '─'.repeat(width)).join('   '), ...rows.map(line)].join('\n') + '\n');
}

async function main(): Promise<void> {
  const started = performance.now();
  for (let seed = 0; seed < seeds; seed++) {
    for (const method of methods) await train(method, seed);
  }
  const column = <Name extends string>(of: Record<Name, number>[], name: Name, digits: number): string =>
    overSeeds(
      of.map((each) => each[name]),
      digits,
    );
  console.log(`accuracy in percent over ${seeds} seeds: mean ± standard deviation\n`);
  printTable(
    ['features', 'kNN (k = 20)', 'linear probe', 'kNN beyond the queue'],
    [
      ...Object.entries(baselines).map(([name, found]) => [
        name,
        column(found, 'kNN', 2),
        column(found, 'probe', 2),
        '',
      ]),
      ...methods.map((method) => {
        const gains = outcomes[method].map(({ kNN }, seed) => kNN - outcomes.queue[seed]!.kNN);
        return [
          NAMES[method],
          column(outcomes[method], 'kNN', 2),
          column(outcomes[method], 'probe', 2),
          method === 'queue' ? '' : overSeeds(gains, 2),
        ];
      }),
    ],
  );
  console.log('what the loss saw at the end: mean similarities with a query; and processor time\n');
  printTable(
    ['negatives', 'positives', 'queue', `nearest ${options.hardest}`, 'mixes', "mixes' share, %", 'CPU ms a step'],
    methods.map((method) => [
      NAMES[method],
      ...(['positives', 'queue', 'nearest', 'mixes'] as const).map((what) => column(outcomes[method], what, 3)),
      column(outcomes[method], 'mixShare', 1),
      column(outcomes[method], 'step', 1),
    ]),
  );
  const minutes = ((performance.now() - started) / 60_000).toFixed(1);
  console.log(`${minutes} minutes in all; threads: ${getThreads()}`);
}

void main();
