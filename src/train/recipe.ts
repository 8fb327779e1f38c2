/**
 * A recipe: one TypeScript file that says what to train, how, and how to judge it. `kontrast train recipe.ts` runs it.
 */
import type { Device } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import type { EvaluateEncoderOptions } from '../evaluate';
import { optionFlag, RESERVED_OPTIONS, type OptionDeclarations, type OptionValues } from './options';
import type { IndexedBatch, Training } from './training';

/** What a recipe is told besides its options. */
export interface RecipeContext {
  /** Where to train. */
  device: Device;
  /** The run's seed. The default generators are seeded with it already; give it to what has a generator of its own. */
  seed: number;
  /** Tells the user something, above the progress bar. */
  log(line: string): void;
}

/** What is evaluated after training, and what `kontrast embed` embeds; how is said in `evaluateEncoder`. */
export type RecipeEvaluation = Omit<EvaluateEncoderOptions, 'onStage'>;

/** What `build` gives: how to train, and how to judge the result. */
export interface RecipeRun<
  Batch extends IndexedBatch = IndexedBatch,
  Views extends unknown[] = unknown[],
> extends Training<Batch, Views> {
  /** Default: the run ends with its training, and cannot be evaluated or embedded. */
  evaluation?: RecipeEvaluation;
}

/** A recipe; made by {@link defineRecipe}. */
export interface Recipe<Declarations extends OptionDeclarations = OptionDeclarations> {
  /** Names the recipe, and by default the run's folder: letters, digits, `-`, `_` and `.`. */
  readonly name: string;
  /** One sentence. */
  readonly description: string;
  /** The options by name, with their defaults; `kontrast train` takes each as `--kebab-case`. */
  readonly options: Declarations;
  /**
   * Makes everything: data, model, optimiser. It must depend on nothing but its arguments, so that a resumed run and an
   * evaluation build the same.
   */
  build(options: OptionValues<Declarations>, context: RecipeContext): RecipeRun | Promise<RecipeRun>;
}

const recipeMark = Symbol.for('kontrast.recipe');

/**
 * Declares a recipe; export the result as the file's default.
 *
 * @example
 * export default defineRecipe({
 *   name: 'my-run',
 *   description: 'Trains something.',
 *   options: { steps: 1000, temperature: option(0.1, 'of the softmax') },
 *   async build({ steps, temperature }, { device, seed }) { … },
 * });
 *
 * @throws {InvalidArgumentError} for missing parts, a name that cannot be a folder's, and an option that the command line keeps for itself.
 */
export function defineRecipe<
  const Declarations extends OptionDeclarations,
  Batch extends IndexedBatch,
  Views extends unknown[],
>(recipe: {
  name: string;
  description: string;
  options: Declarations;
  build(
    options: OptionValues<Declarations>,
    context: RecipeContext,
  ): RecipeRun<Batch, Views> | Promise<RecipeRun<Batch, Views>>;
}): Recipe<Declarations> {
  // A recipe in JavaScript has no compiler to say so.
  const { options, build } = recipe as { options: unknown; build: unknown };
  if (typeof options !== 'object' || options === null || typeof build !== 'function') {
    throw new InvalidArgumentError(
      `recipe '${recipe.name}' needs 'options' (an object; {} when there are none) and 'build' (a function)`,
    );
  }
  if (!/^[\w-][\w.-]*$/.test(recipe.name)) {
    throw new InvalidArgumentError(`a recipe cannot be named '${recipe.name}': use letters, digits, '-', '_' and '.'`);
  }
  for (const name of Object.keys(recipe.options)) {
    if (!/^[a-z][a-zA-Z0-9]*$/.test(name)) {
      throw new InvalidArgumentError(`recipe '${recipe.name}': option '${name}' is not a camelCase name`);
    }
    if (RESERVED_OPTIONS.includes(name)) {
      throw new InvalidArgumentError(
        `recipe '${recipe.name}': option '${name}' is taken, because 'kontrast train' itself has ${optionFlag(name)}`,
      );
    }
  }
  // Batch and Views tie a run's parts to each other; who runs a recipe passes them on without looking.
  return { ...recipe, [recipeMark]: true } as unknown as Recipe<Declarations>;
}

/** Whether a value was made by {@link defineRecipe}. */
export function isRecipe(value: unknown): value is Recipe {
  return typeof value === 'object' && value !== null && recipeMark in value;
}

/** What a run cannot do without, and the method that a part must have. */
const PARTS: Readonly<Record<string, string | null>> = {
  data: 'next',
  views: null,
  method: 'step',
  optimizer: 'step',
  state: null,
};

/**
 * Checks that what a recipe's `build` gave is a run: recipes are loaded without a look at their types.
 *
 * @param recipe The recipe's name, for the message.
 * @throws {InvalidArgumentError} naming what is missing.
 */
export function checkRecipeRun(run: unknown, recipe: string): RecipeRun {
  const lacking = (what: string): InvalidArgumentError =>
    new InvalidArgumentError(
      `recipe '${recipe}': build must return ${Object.keys(PARTS).join(', ')}, and steps or epochs; ${what}`,
    );
  if (typeof run !== 'object' || run === null) throw lacking(`it returned ${String(run)}`);
  for (const [name, method] of Object.entries(PARTS)) {
    const part = (run as Record<string, unknown>)[name];
    const kind = name === 'views' ? 'function' : 'object';
    if (typeof part !== kind || part === null)
      throw lacking(`'${name}' is not a${kind === 'object' ? 'n' : ''} ${kind}`);
    if (method !== null && typeof (part as Record<string, unknown>)[method] !== 'function') {
      throw lacking(`'${name}' has no method '${method}'`);
    }
  }
  return run as RecipeRun;
}
