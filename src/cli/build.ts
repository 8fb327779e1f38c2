/** What several commands do to get from a recipe to something that runs. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { cuda, manualSeed, setThreads, type Device } from '../torch';
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import {
  checkRecipeRun,
  describeCheckpoint,
  loadRecipe,
  optionFlag,
  resolveOptions,
  restoreCheckpoint,
  RunFolder,
  type LoadedRecipe,
  type Recipe,
  type RecipeRun,
  type RunRecord,
} from '../train';
import { commandName } from './command-name';
import { log } from './output';

/** Flags that `evaluate` and `embed` share. */
export interface RunFlags {
  recipe?: string;
  device?: string;
  threads?: number;
}

/** A device that is there: `auto` is the first CUDA device, or the CPU where there is none. */
export function chooseDevice(wanted: string): Device {
  if (wanted === 'auto') return cuda.isAvailable() ? 'cuda:0' : 'cpu';
  if (wanted === 'cpu') return 'cpu';
  const index = wanted === 'cuda' ? 0 : Number(wanted.slice('cuda:'.length));
  const count = cuda.deviceCount();
  if (index >= count) {
    throw new InvalidArgumentError(
      count === 0
        ? `there is no CUDA device for --device ${wanted}: LibTorch has no CUDA, or the machine no driver; use --device cpu`
        : `there is no device ${wanted}: the last is cuda:${count - 1}`,
    );
  }
  return `cuda:${index}`;
}

/**
 * Builds a run the same way each time: threads, seed, then the recipe.
 *
 * @throws {KontrastError} what kontrast refuses in `build`; code `RECIPE` when it fails otherwise.
 */
export async function buildRun(
  recipe: Recipe,
  record: Pick<RunRecord, 'options' | 'seed' | 'threads'>,
  device: Device,
): Promise<RecipeRun> {
  setThreads(record.threads);
  manualSeed(record.seed);
  const options = resolveOptions(recipe.options, record.options);
  try {
    return checkRecipeRun(await recipe.build(options, { device, seed: record.seed, log }), recipe.name);
  } catch (error) {
    if (error instanceof KontrastError) throw error;
    throw new KontrastError(
      `recipe '${recipe.name}' failed in its build: ${error instanceof Error ? error.message : String(error)}; mend it there ` +
        '(KONTRAST_DEBUG=1 prints the line)',
      { code: 'RECIPE', cause: error },
    );
  }
}

/** A trained run, built again with its weights. */
export interface TrainedRun extends LoadedRecipe {
  run: RecipeRun;
  record: RunRecord;
  /** The folder of the checkpoint. */
  folder: RunFolder;
  checkpoint: string;
}

/**
 * Builds the run that a folder or checkpoint belongs to, with the checkpoint's weights.
 *
 * @throws {KontrastError} when there is none, it is not of the run in its folder, or the recipe is another than it was.
 */
export async function openTrainedRun(target: string, flags: RunFlags): Promise<TrainedRun> {
  const checkpoint = findCheckpoint(target);
  const { run: saved } = describeCheckpoint(checkpoint);
  if (saved === null) {
    throw new InvalidArgumentError(
      `the checkpoint '${checkpoint}' was not made by '${commandName()} train', so its recipe is not known: name one that was`,
    );
  }
  const folder = new RunFolder(path.dirname(checkpoint));
  folder.checkOwns(checkpoint, saved);
  if (flags.recipe === undefined && !fs.existsSync(saved.recipePath)) {
    throw new InvalidArgumentError(
      `the run's recipe '${saved.recipePath}' is not there any more: say where it is now with --recipe <file>`,
    );
  }
  const loaded = await loadRecipe(flags.recipe ?? saved.recipePath);
  checkSameRecipe(loaded, saved);
  const record = { ...saved, threads: flags.threads ?? saved.threads };
  const run = await buildRun(loaded.recipe, record, chooseDevice(flags.device ?? 'auto'));
  restoreCheckpoint(checkpoint, run.state, { only: true });
  return { ...loaded, run, record, checkpoint, folder };
}

/** Refuses another recipe than the run's and one that has lost options, and says so when the recipe's file has changed. */
export function checkSameRecipe(loaded: LoadedRecipe, record: RunRecord): void {
  if (loaded.recipe.name !== record.recipe) {
    throw new InvalidArgumentError(
      `the run is of recipe '${record.recipe}', but '${loaded.path}' is recipe '${loaded.recipe.name}': name the run's own`,
    );
  }
  const gone = Object.keys(record.options).filter((name) => !Object.hasOwn(loaded.recipe.options, name));
  if (gone.length > 0) {
    throw new InvalidArgumentError(
      `the run was started with ${gone.map(optionFlag).join(', ')}, which the recipe '${loaded.path}' has no more: ` +
        'bring the recipe back to what it was, or start another run',
    );
  }
  if (loaded.hash !== record.recipeHash) log(`note: the recipe '${loaded.path}' has changed since the run was started`);
}

/** The checkpoint that a run's folder holds, or the file itself; absolute. */
export function findCheckpoint(target: string): string {
  const stat = fs.statSync(target, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new InvalidArgumentError(
      `there is no run or checkpoint '${target}': name a run's folder or a checkpoint's file`,
    );
  }
  if (!stat.isDirectory()) return path.resolve(target);
  const folder = new RunFolder(path.resolve(target));
  if (!folder.hasCheckpoint) {
    throw new InvalidArgumentError(
      `'${target}' holds no checkpoint (no ${path.basename(folder.checkpoint)}): train first`,
    );
  }
  return folder.checkpoint;
}
