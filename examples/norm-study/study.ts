/** Trains the recipe beside this file with every norm and several batch sizes: `npx jiti examples/norm-study/study.ts`. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toFloat } from 'kontrast/data';
import { evaluateEncoder } from 'kontrast/evaluate';
import type { MoCo } from 'kontrast/models';
import type { Module } from 'kontrast/nn';
import { detectLeak } from 'kontrast/norm';
import { dispose, getThreads, InvalidArgumentError, manualSeed, noGrad, scope, type Tensor } from 'kontrast/torch';
import {
  option,
  parseOptions,
  resolveOptions,
  Trainer,
  type ProgressState,
  type RecipeEvaluation,
  type RecipeRun,
} from 'kontrast/train';
import { plot } from './plot';
import recipe, { type NormName } from './recipe';

/** What one training gave. */
export interface Outcome {
  norm: NormName;
  batchSize: number;
  seed: number;
  /** Accuracy in percent. */
  kNN: number;
  /** The mean over the last tenth of the steps. */
  loss: number;
  leak: 'leaks' | 'shielded' | 'independent';
  /** How often a query's batch was told from its key alone, in percent; guessing gives 12.5. */
  identified: number;
}

/** All that is known so far. Accuracies in percent. */
export interface Results {
  options: object;
  outcomes: Outcome[];
  /** Before training, one a seed. */
  untrained: Record<string, number[]>;
  pixels: number | null;
  /** Milliseconds an image, for each batch size. */
  cost: Record<string, Partial<Record<NormName, number>>>;
}

const { norm: which, batchSize: size, ...shared } = recipe.options;
const declarations = {
  norms: option(which.limits.choices!, which.description),
  batchSizes: option([8, 32, 256], size.description, size.limits),
  seeds: option(3, 'how many seeds', { integer: true, minimum: 1 }),
  repeated: option(which.limits.choices!, 'the norms that get more than the first seed'),
  out: option(join(__dirname, 'results'), 'the folder of the results; a study that was cut off goes on there'),
  ...shared,
};
const { norms, batchSizes, seeds, repeated, out, ...options } = resolveOptions(
  declarations,
  parseOptions(declarations, process.argv.slice(2)),
);
const normNames = norms as NormName[];
const resultsFile = join(out, 'outcomes.json');
const results = readResults();

function readResults(): Results {
  if (!existsSync(resultsFile)) return { options, outcomes: [], untrained: {}, pixels: null, cost: {} };
  const found = JSON.parse(readFileSync(resultsFile, 'utf8')) as Results;
  if (JSON.stringify(found.options) !== JSON.stringify(options)) {
    throw new InvalidArgumentError(`${resultsFile} is of a study with other options: give another folder with --out`);
  }
  return found;
}

/** Under another name first, so that a study cut off in the middle of it loses nothing. */
function write(file: string, text: string): void {
  writeFileSync(`${file}.part`, text);
  renameSync(`${file}.part`, file);
}

function save(): void {
  write(resultsFile, `${JSON.stringify(results, null, 1)}\n`);
}

async function build(norm: NormName, batchSize: number, seed: number): Promise<RecipeRun> {
  manualSeed(seed);
  const context = { device: 'cpu', seed, log: (line: string) => console.error(line) } as const;
  return recipe.build(resolveOptions(recipe.options, { ...options, norm, batchSize }), context);
}

async function accuracy(evaluation: RecipeEvaluation, encoder: Module): Promise<number> {
  const { rows, testFeatures } = await evaluateEncoder({
    ...evaluation,
    encoder,
    untrained: undefined,
    augmentation: undefined,
    probe: false,
    pixels: results.pixels === null,
  });
  dispose(testFeatures);
  const percent = (name: string): number | null => {
    const row = rows.find((each) => each.name === name);
    return row === undefined ? null : 100 * row.knn;
  };
  results.pixels ??= percent('raw pixels');
  return percent('trained encoder')!;
}

/**
 * Of the encoder as training starts. It has no running statistics to speak of then: a pass over the labelled images gives it some, with those
 * of larger batches moving fast enough for that.
 */
async function untrainedAccuracy(norm: NormName, seed: number): Promise<number> {
  const run = await build(norm, Math.min(256, options.images), seed);
  const { untrained, train, normalize, ...rest } = run.evaluation!;
  const encoder = untrained!.train();
  noGrad(() => {
    for (const images of train.images.split(250)) scope(() => encoder.forward(normalize!(toFloat(images))));
  });
  const found = await accuracy({ train, normalize, ...rest }, encoder.eval());
  (run.state.moco as MoCo).dispose();
  return found;
}

async function train(norm: NormName, batchSize: number, seed: number): Promise<void> {
  const run = await build(norm, batchSize, seed);
  const losses: number[] = [];
  const update = ({ loss }: ProgressState): void => void losses.push(loss);
  await new Trainer(run, { progress: { start: () => undefined, update, stop: () => undefined } }).run();
  const kNN = await accuracy(run.evaluation!, run.evaluation!.encoder);
  const moco = run.state.moco as MoCo;
  moco.train();
  const views = (): [Tensor, Tensor] => run.views(run.data.next()) as [Tensor, Tensor];
  const { verdict, identified } = scope(() => detectLeak(moco, Array.from({ length: 8 }, views)));
  const last = losses.slice(-Math.ceil(losses.length / 10));
  const outcome = { kNN, loss: mean(last), leak: verdict, identified: 100 * identified };
  results.outcomes.push({ norm, batchSize, seed, ...outcome });
  console.error(`${norm}, batches of ${batchSize}, seed ${seed}: kNN ${kNN.toFixed(2)} %, ${verdict}`);
  moco.dispose();
}

/**
 * Milliseconds an image of a training step. All norms step in turn, so that what else the machine does falls on all of them, and of a norm's
 * steps the lower quartile counts.
 */
async function measureCost(batchSize: number): Promise<Record<NormName, number>> {
  const runs: [NormName, RecipeRun, number[]][] = [];
  for (const norm of normNames) runs.push([norm, await build(norm, batchSize, 0), []]);
  for (let round = 0; round < Math.max(12, Math.min(2560, options.images) / batchSize); round++) {
    for (const [, run, times] of runs) {
      const start = performance.now();
      scope(() => {
        const { loss } = run.method.step(...noGrad(() => run.views(run.data.next())));
        run.optimizer.zeroGrad();
        loss.backward();
        run.optimizer.step();
      });
      times.push(performance.now() - start);
    }
  }
  const cost = runs.map(([norm, run, times]) => {
    (run.state.moco as MoCo).dispose();
    return [norm, times.sort((a, b) => a - b)[times.length >> 2]! / batchSize];
  });
  return Object.fromEntries(cost) as Record<NormName, number>;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0) / values.length;
}

/** Mean, and with several values the standard deviation; a dash for none. */
function overSeeds(values: readonly number[], digits: number): string {
  if (values.length === 0) return '–';
  const variance = values.reduce((sum, x) => sum + (x - mean(values)) ** 2, 0) / (values.length - 1);
  return mean(values).toFixed(digits) + (values.length > 1 ? ` ± ${Math.sqrt(variance).toFixed(digits)}` : '');
}

function table(head: string[], rows: string[][]): string {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]!)))
      .join('   ')
      .trimEnd();
  return [line(head), widths.map((width) => '─'.repeat(width)).join('   '), ...rows.map(line), ''].join('\n');
}

function report(): string {
  const of = (norm: NormName, batchSize: number): Outcome[] =>
    results.outcomes.filter((outcome) => outcome.norm === norm && outcome.batchSize === batchSize);
  const columns = (name: string): string[] => batchSizes.map((size) => `${name} ${size}`);
  const accuracies = normNames.map((norm) => [
    norm,
    overSeeds(results.untrained[norm] ?? [], 2),
    ...batchSizes.map((size) =>
      overSeeds(
        of(norm, size).map(({ kNN }) => kNN),
        2,
      ),
    ),
  ]);
  const others = normNames.map((norm) => [
    norm,
    ...batchSizes.map((size) =>
      overSeeds(
        of(norm, size).map(({ loss }) => loss),
        2,
      ),
    ),
    ...batchSizes.map((size) => [...new Set(of(norm, size).map(({ leak }) => leak))].join(', ') || '–'),
    ...batchSizes.map((size) => results.cost[size]?.[norm]?.toFixed(2) ?? '–'),
  ]);
  return [
    `kNN accuracy (k = 20) in percent on ${options.testImages} test images; raw pixels ${results.pixels?.toFixed(2)}`,
    `where there are several seeds, mean ± standard deviation over ${seeds}\n`,
    table(['norm', 'untrained', ...columns('batch')], accuracies),
    "the loss at the end, what the leak detector says of the trained encoders, and a step's milliseconds an image\n",
    table(['norm', ...columns('loss'), ...columns('leak'), ...columns('ms')], others),
    `threads: ${getThreads()}\n`,
  ].join('\n');
}

async function main(): Promise<void> {
  mkdirSync(out, { recursive: true });
  for (let seed = 0; seed < seeds; seed++) {
    const chosen = seed === 0 ? normNames : normNames.filter((name) => repeated.includes(name));
    for (const norm of chosen) {
      const found = (results.untrained[norm] ??= []);
      if (found.length > seed) continue;
      found.push(await untrainedAccuracy(norm, seed));
      save();
    }
    // The cheapest first.
    for (const batchSize of [...batchSizes].sort((a, b) => b - a)) {
      for (const norm of chosen) {
        const isDone = results.outcomes.some(
          (each) => each.norm === norm && each.batchSize === batchSize && each.seed === seed,
        );
        if (isDone) continue;
        await train(norm, batchSize, seed);
        save();
      }
    }
  }
  for (const batchSize of batchSizes) {
    if (normNames.every((norm) => results.cost[batchSize]?.[norm] !== undefined)) continue;
    results.cost[batchSize] = await measureCost(batchSize);
    save();
  }
  const text = report();
  write(join(out, 'output.txt'), text);
  write(join(out, 'accuracy.svg'), plot(results, normNames, batchSizes));
  console.log(text);
}

void main();
