import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Command } from 'commander';
import { dispose, getThreads } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import {
  createProgress,
  describeCheckpoint,
  describeOptions,
  evaluateRun,
  formatOption,
  loadRecipe,
  optionFlag,
  parseOptions,
  readMetrics,
  resolveOptions,
  RunFolder,
  RunLock,
  Trainer,
  type IndexedBatch,
  type LoadedRecipe,
  type OptionValue,
  type Recipe,
  type RecipeRun,
  type RunMode,
  type RunRecord,
} from '../train';
import { buildRun, checkSameRecipe, chooseDevice } from './build';
import { commandName, shellPath } from './command-name';
import { exitCodes } from './exit-codes';
import { checking, CommandFailure } from './failure';
import { log, print } from './output';
import { checkWritable } from './writable';

/** The flags of `kontrast train`. */
export interface TrainFlags {
  out?: string;
  resume?: boolean;
  overwrite?: boolean;
  device?: string;
  seed?: number;
  threads?: number;
  help?: boolean;
}

/** `kontrast train <recipe>`; returns the exit code. */
export async function train(
  file: string,
  words: readonly string[],
  flags: TrainFlags,
  command: Command,
): Promise<number> {
  const prepared = await checking(async () => {
    const loaded = await loadRecipe(file);
    if (flags.help === true) return loaded;
    return prepare(loaded, parseOptions(loaded.recipe.options, words), flags);
  });
  if (!('trainer' in prepared)) {
    printHelp(prepared, command);
    return exitCodes.ok;
  }

  try {
    return await carryOut(prepared);
  } finally {
    prepared.lock.release();
  }
}

/** Trains, then evaluates; returns the exit code. */
async function carryOut({ folder, trainer, run, record, recipe, stop }: Prepared): Promise<number> {
  const firstStep = trainer.step;
  log(
    `${recipe.name}: ${trainer.stepsTotal} steps on ${record.device} (threads: ${record.threads}), into ${folder.path}`,
  );
  if (firstStep > 0) log(`going on after step ${firstStep}`);
  const signals = catchSignals(stop);
  try {
    await trainer.run();
  } catch (error) {
    // What a method refuses in the first step is bad input: nothing has been written yet.
    if (error instanceof InvalidArgumentError && trainer.step === firstStep) {
      throw new CommandFailure(exitCodes.usage, error);
    }
    throw error;
  } finally {
    signals.release();
  }
  if (stop.signal.aborted) {
    const isDone = trainer.step === trainer.stepsTotal;
    const place = shellPath(folder.path);
    log(
      `stopped after step ${trainer.step} of ${trainer.stepsTotal}; the state is saved. ${isDone ? 'Evaluate it' : 'Go on'} with:\n` +
        `  ${commandName()} ${isDone ? `evaluate ${place}` : `train ${shellPath(record.recipePath)} --out ${place} --resume`}`,
    );
    return signals.received() === 'SIGTERM' ? exitCodes.terminated : exitCodes.interrupted;
  }
  print(`checkpoint: ${folder.checkpoint}`);
  if (run.evaluation !== undefined) {
    const { testFeatures } = await evaluateRun({ recipe, record, evaluation: run.evaluation, folder, print, log });
    dispose(testFeatures);
  }
  return exitCodes.ok;
}

/** A run that can start. */
interface Prepared {
  recipe: Recipe;
  folder: RunFolder;
  /** Keeps other processes out of the folder. */
  lock: RunLock;
  record: RunRecord;
  run: RecipeRun;
  trainer: Trainer<IndexedBatch, unknown[]>;
  stop: AbortController;
}

/** Takes the run's folder, checks and builds everything, and changes nothing else on disk. */
async function prepare(loaded: LoadedRecipe, given: Record<string, OptionValue>, flags: TrainFlags): Promise<Prepared> {
  if (flags.resume === true && flags.overwrite === true) {
    throw new InvalidArgumentError('--resume goes on with a run, --overwrite starts it over: give one of them');
  }
  const mode: RunMode = flags.resume === true ? 'resume' : flags.overwrite === true ? 'overwrite' : 'new';
  const folder = new RunFolder(path.resolve(flags.out ?? path.join('runs', loaded.recipe.name)));
  checkWritable(folder.path, '--out');
  // Mistakes first, without a trace on disk; what counts is what the folder holds once it is taken.
  folder.check(mode);
  const lock = await RunLock.take(folder.path);
  try {
    return { ...(await build(loaded, given, flags, folder, folder.check(mode))), lock };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** @param before The record of the run to go on with; null for a new run. */
async function build(
  loaded: LoadedRecipe,
  given: Record<string, OptionValue>,
  flags: TrainFlags,
  folder: RunFolder,
  before: RunRecord | null,
): Promise<Omit<Prepared, 'lock'>> {
  const { recipe } = loaded;
  const isResumed = before !== null && folder.hasCheckpoint;
  if (before !== null) {
    checkSameRecipe(loaded, before);
    checkSameOptions(before, given, flags);
  }
  if (isResumed) {
    const { run: saved } = describeCheckpoint(folder.checkpoint);
    if (saved !== null) folder.checkOwns(folder.checkpoint, saved);
    if (fs.existsSync(folder.metrics)) readMetrics(folder.metrics);
  }

  const device = chooseDevice(before?.device ?? flags.device ?? 'auto');
  const threads = flags.threads ?? before?.threads ?? getThreads();
  if (before !== null && threads !== before.threads) {
    log(
      `note: the run had ${before.threads} threads and goes on with ${threads}: sums are added up in another order, so its last ` +
        'digits will differ from those of an uninterrupted run',
    );
  }
  const record: RunRecord = {
    recipe: recipe.name,
    recipePath: loaded.path,
    recipeHash: loaded.hash,
    options: resolveOptions(recipe.options, before?.options ?? given) as Record<string, OptionValue>,
    seed: before?.seed ?? flags.seed ?? 0,
    device,
    threads,
    kontrast: readVersion(),
    node: process.version,
    started: before?.started ?? new Date().toISOString(),
  };
  const run = await buildRun(recipe, record, device);
  const stop = new AbortController();
  const trainer = new Trainer(run, {
    device,
    checkpointPath: folder.checkpoint,
    metricsPath: folder.metrics,
    progress: createProgress(),
    signal: stop.signal,
    record,
    onFirstStep: () => {
      if (!isResumed) folder.begin(record);
    },
  });
  if (isResumed) trainer.resume();
  else if (before !== null) log('the run has no checkpoint yet, so it starts from the beginning');
  return { recipe, folder, record, run, trainer, stop };
}

/** A run goes on with what it was started with; an option that says otherwise is a mistake, not a wish. */
function checkSameOptions(
  record: RunRecord,
  given: Readonly<Record<string, OptionValue>>,
  { seed, device }: TrainFlags,
): void {
  const wanted: [string, OptionValue | undefined, OptionValue | undefined][] = Object.entries(given).map(
    ([name, value]) => [optionFlag(name), value, record.options[name]],
  );
  if (seed !== undefined) wanted.push(['--seed', seed, record.seed]);
  if (device !== undefined && device !== 'auto') wanted.push(['--device', chooseDevice(device), record.device]);
  for (const [flag, value, recorded] of wanted) {
    const show = (each: OptionValue | undefined): string => (each === undefined ? 'nothing' : formatOption(each));
    if (show(value) !== show(recorded)) {
      throw new InvalidArgumentError(
        `the run was started with ${flag} ${show(recorded)}, not ${show(value)}: leave ${flag} out to resume it, or start another run (--out)`,
      );
    }
  }
}

/**
 * Lets the first Ctrl-C (or SIGTERM) end training after the present step. The second one ends the process at once, as if nothing
 * listened.
 */
function catchSignals(stop: AbortController): { release(): void; received(): NodeJS.Signals | undefined } {
  const names: NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
  let received: NodeJS.Signals | undefined;
  const release = (): void => names.forEach((name) => process.off(name, onSignal));
  const onSignal = (name: NodeJS.Signals): void => {
    received = name;
    release();
    stop.abort();
    log(`\n${name}: finishing the step and saving; once more to stop at once`);
  };
  names.forEach((name) => process.on(name, onSignal));
  return { release, received: () => received };
}

function printHelp({ recipe }: LoadedRecipe, command: Command): void {
  const lines = describeOptions(recipe.options);
  const width = Math.max(...lines.map(({ term }) => term.length));
  print(command.helpInformation().trimEnd());
  print(`\nRecipe '${recipe.name}': ${recipe.description}\n\nRecipe options:`);
  for (const { term, description } of lines) print(`  ${term.padEnd(width)}  ${description}`);
}

function readVersion(): string {
  const manifest = path.resolve(__dirname, '..', '..', 'package.json');
  return (JSON.parse(fs.readFileSync(manifest, 'utf8')) as { version: string }).version;
}
