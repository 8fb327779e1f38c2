import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import { isRecipe, type Recipe } from './recipe';

/** A recipe and the file it came from. */
export interface LoadedRecipe {
  recipe: Recipe;
  /** The file, absolute. */
  path: string;
  /** SHA-256 of the file. */
  hash: string;
}

/**
 * Loads a recipe from a TypeScript (or JavaScript) file anywhere. Its imports of `kontrast` and `kontrast/<room>` are this very
 * package, already loaded, so that there is one copy of all state whether or not the recipe's folder has the package installed.
 *
 * @param file The file's name.
 * @throws {InvalidArgumentError} when there is no such file or its default export is no recipe.
 * @throws {KontrastError} code `RECIPE` when the file cannot be compiled or fails while it loads.
 */
export async function loadRecipe(file: string): Promise<LoadedRecipe> {
  const absolute = path.resolve(file);
  let source: Buffer;
  try {
    source = fs.readFileSync(absolute);
  } catch (error) {
    throw new InvalidArgumentError(`cannot read the recipe '${file}': ${(error as Error).message}`, { cause: error });
  }
  // Loaded only here: a compiler is more than most programs that import this room need.
  const { createJiti } = await import('jiti');
  const jiti = createJiti(absolute, { virtualModules: ownRooms(), interopDefault: true });
  let module: unknown;
  try {
    module = await jiti.import(absolute);
  } catch (error) {
    if (error instanceof KontrastError) throw error;
    throw new KontrastError(
      `the recipe '${file}' cannot be loaded: ${error instanceof Error ? error.message : String(error)}`,
      {
        code: 'RECIPE',
        cause: error,
      },
    );
  }
  const recipe = typeof module === 'object' && module !== null && 'default' in module ? module.default : module;
  if (!isRecipe(recipe)) {
    throw new InvalidArgumentError(
      `'${file}' is no recipe: its default export must be what defineRecipe(…) from 'kontrast' returns`,
    );
  }
  return { recipe, path: absolute, hash: createHash('sha256').update(source).digest('hex') };
}

/** `kontrast` and each of its rooms, loaded when a recipe asks for them. */
function ownRooms(): Record<string, unknown> {
  const root = path.resolve(__dirname, '..');
  const manifest = JSON.parse(fs.readFileSync(path.join(root, '..', 'package.json'), 'utf8')) as {
    exports: Record<string, unknown>;
  };
  const load = createRequire(__filename);
  const modules: Record<string, unknown> = {};
  for (const entry of Object.keys(manifest.exports)) {
    if (entry.endsWith('.json')) continue;
    Object.defineProperty(modules, path.posix.join('kontrast', entry), {
      enumerable: true,
      get: () => load(path.join(root, entry)) as unknown,
    });
  }
  return modules;
}
