/**
 * A checkpoint: one safetensors file with everything needed to go on exactly. Tensors are named `<part>.<name>`; the file's
 * metadata holds the numbers as JSON.
 *
 * | metadata | content |
 * |---|---|
 * | `format` | `kontrast-checkpoint` |
 * | `version` | the version of this table |
 * | `run` | the run's record: recipe, options, seed, … |
 * | `trainer` | steps done and the like |
 * | `parts` | the values of each part's state |
 * | `modules` | the module tree of each part that is a module: its architecture, beside names and shapes |
 */
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import { removeTemporaryFiles } from '../torch/files';
import { noGrad, scope, type Generator, type Tensor } from '../torch';
import { readSafetensors, writeSafetensors } from '../torch/safetensors';
import { readSafetensorsLayout } from '../torch/safetensors-layout';
import type { JsonObject, JsonValue, StateDict, Stateful } from '../torch/state';
import { Module, type AnyModule } from '../nn';
import { checkRunRecord, type RunRecord } from './run-folder';

/** What a checkpoint can hold as a part: a module, anything with a state dict, or a random generator. */
export type Part = AnyModule | Stateful | Generator;

/** What {@link saveCheckpoint} writes. */
export interface CheckpointContent {
  /** The run that it belongs to. Default: null, for a trainer that is used without a recipe. */
  run?: RunRecord | null;
  /** The trainer's own numbers. */
  trainer: JsonObject;
  /** By name. A part's name must not contain a dot. */
  parts: Readonly<Record<string, Part>>;
}

/** What a checkpoint says of itself, read without its tensors. */
export interface CheckpointDescription {
  path: string;
  run: RunRecord | null;
  trainer: JsonObject;
}

const FORMAT = 'kontrast-checkpoint';
const VERSION = '1';

/** What to do about a damaged file. */
const USE_ANOTHER =
  'use an older checkpoint (checkpoint-step-<n>.safetensors, where the recipe keeps some), or start the run over (--overwrite)';

/** How many differing names an error lists. */
const LISTED = 5;

/**
 * Writes a checkpoint, atomically: a crash leaves the one that was there before.
 *
 * @param path The file.
 */
export function saveCheckpoint(path: string, { run = null, trainer, parts }: CheckpointContent): void {
  scope(() => {
    const tensors = new Map<string, Tensor>();
    const values: JsonObject = {};
    const modules: Record<string, string[]> = {};
    for (const [part, content] of Object.entries(parts)) {
      // `a.b` could not be told from the entry `b` of a part `a`.
      if (part.includes('.'))
        throw new InvalidArgumentError(`a part of a checkpoint cannot be named '${part}': it has a dot`);
      const state = stateOf(content);
      for (const [name, tensor] of state.tensors) tensors.set(`${part}.${name}`, tensor);
      values[part] = state.values;
      if (content instanceof Module) modules[part] = describeModules(content);
    }
    writeSafetensors(path, tensors, {
      format: FORMAT,
      version: VERSION,
      run: JSON.stringify(run),
      trainer: JSON.stringify(trainer),
      parts: JSON.stringify(values),
      modules: JSON.stringify(modules),
    });
  });
  removeTemporaryFiles(path);
}

/**
 * Reads what a checkpoint says of itself, after checking the whole file's layout.
 *
 * @throws {KontrastError} code `SAFETENSORS` or `CHECKPOINT`: the file is cut off, damaged, or no checkpoint.
 */
export function describeCheckpoint(path: string): CheckpointDescription {
  const { metadata } = readLayout(path);
  checkFormat(path, metadata);
  const run = readJson(path, metadata, 'run');
  return {
    path,
    run: run === null ? null : checkRunRecord(run, path),
    trainer: readJsonObject(path, metadata, 'trainer'),
  };
}

/**
 * Puts a checkpoint's state into the parts. All of the file is checked against all of the parts first, and when a part refuses its
 * state, the parts before it get their old one back: either everything is taken over or nothing changes.
 *
 * @param path The file.
 * @param parts By the names they were saved under.
 * @param options.only Take over these parts and leave the file's others alone. Default: the file and `parts` must have
 *   the same parts.
 * @param options.growing Parts that make tensors as they go, such as an optimiser: they check the names themselves.
 * @returns The trainer's own numbers.
 * @throws {KontrastError} code `CHECKPOINT`: the file is of another architecture (lists the first names and shapes that differ),
 *   has other parts, or a part refused its state; code `SAFETENSORS`: the file is cut off or damaged.
 */
export function restoreCheckpoint(
  path: string,
  parts: Readonly<Record<string, Part>>,
  options: { only?: boolean; growing?: readonly string[] } = {},
): JsonObject {
  const { metadata, tensors: layouts } = readLayout(path);
  checkFormat(path, metadata);
  const trainer = readJsonObject(path, metadata, 'trainer');
  const values = readJsonObject(path, metadata, 'parts');
  const modules = readJsonObject(path, metadata, 'modules');

  const missing = Object.keys(parts).filter((part) => !Object.hasOwn(values, part));
  const unexpected = options.only === true ? [] : Object.keys(values).filter((part) => !Object.hasOwn(parts, part));
  if (missing.length > 0 || unexpected.length > 0) {
    throw checkpointError(
      path,
      `its parts differ from the run's${missing.length > 0 ? `; it lacks ${missing.join(', ')}` : ''}${
        unexpected.length > 0 ? `; it has besides ${unexpected.join(', ')}` : ''
      }. Use the recipe as it was when the run was started, or start another run`,
    );
  }
  const differences: string[] = [];
  for (const [part, content] of Object.entries(parts)) {
    const own = scope(() => describeTensors([...stateOf(content).tensors]));
    const prefix = `${part}.`;
    const saved = describeTensors(
      layouts.filter(({ name }) => name.startsWith(prefix)).map((layout) => [layout.name.slice(prefix.length), layout]),
    );
    if (options.growing?.includes(part) !== true) differences.push(...compare(part, saved, own));
    if (content instanceof Module) {
      const lines = modules[part];
      const classes = (each: readonly string[]): Map<string, string> => new Map(each.map(splitLine));
      differences.push(
        ...compare(part, classes(Array.isArray(lines) ? lines.map(String) : []), classes(describeModules(content))),
      );
    }
  }
  if (differences.length > 0) throw architectureError(path, differences);

  scope(() => {
    const { tensors } = readSafetensors(path);
    const before: [Part, StateDict][] = [];
    for (const [part, content] of Object.entries(parts)) {
      const present = stateOf(content);
      // Loaders copy into the tensors that stateDict aliases, so only a copy can bring the old values back.
      const copies = noGrad(() => new Map([...present.tensors].map(([name, tensor]) => [name, tensor.clone()])));
      before.push([content, { tensors: copies, values: present.values }]);
      try {
        loadState(content, { tensors: withoutPrefix(tensors, `${part}.`), values: values[part] ?? null });
      } catch (error) {
        for (const [changed, state] of before) loadState(changed, state);
        throw checkpointError(
          path,
          `${part}: ${(error as Error).message}; use the recipe as it was when the run was started`,
          error,
        );
      }
    }
  });
  return trainer;
}

/** A file that is damaged or cannot be read is a checkpoint here, and so has another way out. */
function readLayout(path: string): ReturnType<typeof readSafetensorsLayout> {
  try {
    return readSafetensorsLayout(path);
  } catch (error) {
    if (!(error instanceof KontrastError)) throw error;
    throw new KontrastError(`${error.message}; ${USE_ANOTHER}`, { code: error.code, cause: error });
  }
}

/** The state of any part in one form. */
function stateOf(part: Part): StateDict {
  if (part instanceof Module) return { tensors: part.stateDict(), values: null };
  if (isGenerator(part)) return { tensors: new Map([['state', part.getState()]]), values: null };
  return part.stateDict();
}

function loadState(part: Part, state: StateDict): void {
  if (part instanceof Module) part.loadStateDict(state.tensors);
  else if (isGenerator(part)) {
    const saved = state.tensors.get('state');
    if (saved === undefined) throw new KontrastError("the generator's state is missing", { code: 'CHECKPOINT' });
    part.setState(saved);
  } else part.loadStateDict(state);
}

function isGenerator(part: Part): part is Generator {
  return 'getState' in part && 'setState' in part;
}

/** `name: class` of a module and all below it: tells apart what has the same shapes, such as another activation. */
function describeModules(module: AnyModule): string[] {
  return [...module.namedModules()].map(([name, { constructor }]) => `${name}: ${constructor.name}`);
}

function splitLine(line: string): [string, string] {
  const colon = line.indexOf(': ');
  return [line.slice(0, colon), line.slice(colon + 2)];
}

function describeTensors(
  tensors: readonly (readonly [string, { dtype: string; shape: readonly number[] }])[],
): Map<string, string> {
  return new Map(tensors.map(([name, { dtype, shape }]) => [name, `${dtype} [${shape.join(', ')}]`]));
}

/** What differs between a checkpoint's part and a run's, one line a name. */
function compare(part: string, saved: ReadonlyMap<string, string>, own: ReadonlyMap<string, string>): string[] {
  const differences: string[] = [];
  for (const name of new Set([...own.keys(), ...saved.keys()])) {
    const [theirs, ours] = [saved.get(name), own.get(name)];
    if (theirs === ours) continue;
    const place = name === '' ? part : `${part}.${name}`;
    differences.push(`${place}: ${theirs ?? 'not there'} in the checkpoint, ${ours ?? 'not there'} in the run`);
  }
  return differences;
}

function architectureError(path: string, differences: readonly string[]): KontrastError {
  const more = differences.length - LISTED;
  const lines = [...differences.slice(0, LISTED), ...(more > 0 ? [`… and ${more} more`] : [])];
  return checkpointError(
    path,
    `it is of another architecture than the run, so its options or its recipe must have differed:\n  ${lines.join('\n  ')}\n` +
      'Use the options and the recipe that it was made with, or start another run',
  );
}

function withoutPrefix(tensors: Readonly<Record<string, Tensor>>, prefix: string): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [name, tensor] of Object.entries(tensors)) {
    if (name.startsWith(prefix)) found.set(name.slice(prefix.length), tensor);
  }
  return found;
}

function checkFormat(path: string, metadata: Readonly<Record<string, string>>): void {
  if (metadata.format !== FORMAT) {
    throw checkpointError(
      path,
      `it is a safetensors file, but no checkpoint of kontrast; name a run's folder, or a checkpoint in one`,
    );
  }
  if (metadata.version !== VERSION) {
    throw checkpointError(
      path,
      `its format has version ${metadata.version}, this kontrast reads version ${VERSION}; use the kontrast that wrote it, or train again`,
    );
  }
}

function readJson(path: string, metadata: Readonly<Record<string, string>>, name: string): JsonValue {
  try {
    return JSON.parse(metadata[name] ?? '') as JsonValue;
  } catch (error) {
    throw checkpointError(path, `its metadata entry '${name}' is missing or not JSON; ${USE_ANOTHER}`, error);
  }
}

function readJsonObject(path: string, metadata: Readonly<Record<string, string>>, name: string): JsonObject {
  const value = readJson(path, metadata, name);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw checkpointError(path, `its metadata entry '${name}' is not an object; ${USE_ANOTHER}`);
  }
  return value;
}

function checkpointError(path: string, what: string, cause?: unknown): KontrastError {
  return new KontrastError(`the checkpoint '${path}' cannot be used: ${what}`, { code: 'CHECKPOINT', cause });
}
