import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as torch from '../../src/torch';
import { loadRecipe, type Recipe } from '../../src/train';

describe('loadRecipe', () => {
  let folder: string;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-recipe-'))));
  after(() => fs.rmSync(folder, { recursive: true }));

  function write(name: string, text: string): string {
    const file = path.join(folder, name);
    fs.writeFileSync(file, text);
    return file;
  }

  it('compiles TypeScript anywhere, with this very package and files beside it', async () => {
    write('beside.ts', `import { Tensor } from 'kontrast/torch'; export const beside: typeof Tensor = Tensor;`);
    const file = write(
      'recipe.ts',
      `import { defineRecipe, Tensor } from 'kontrast';
       import { beside } from './beside';
       interface Nothing {}
       export default defineRecipe({
         name: 'parts', description: 'd', options: { size: 3 },
         build: ({ size }) => ({ Tensor, beside, size } as Nothing as never),
       });`,
    );
    const { recipe, path: found, hash } = await loadRecipe(file);
    assert.equal(found, file);
    assert.match(hash, /^[0-9a-f]{64}$/);
    assert.equal(recipe.name, 'parts');
    const context = { device: 'cpu' as const, seed: 0, log: () => undefined };
    const built: unknown = await (recipe as Recipe).build({ size: 4 }, context);
    assert.deepEqual(built, { Tensor: torch.Tensor, beside: torch.Tensor, size: 4 });
  });

  it('takes JavaScript too', async () => {
    const file = write(
      'recipe.mjs',
      `import { defineRecipe } from 'kontrast/train';
       export default defineRecipe({ name: 'js', description: 'd', options: {}, build: () => ({}) });`,
    );
    assert.equal((await loadRecipe(file)).recipe.name, 'js');
  });

  it('names files that are no recipe', async () => {
    await assert.rejects(loadRecipe(path.join(folder, 'none.ts')), /cannot read the recipe '.*none\.ts': ENOENT/);
    await assert.rejects(loadRecipe(write('other.ts', 'export default { name: "x" };')), /'.*other\.ts' is no recipe/);
    await assert.rejects(loadRecipe(write('broken.ts', 'export default {')), /broken\.ts' cannot be loaded: /);
    await assert.rejects(
      loadRecipe(write('throws.ts', 'throw new Error("mine")')),
      /throws\.ts' cannot be loaded: mine/,
    );
    await assert.rejects(
      loadRecipe(write('absent.ts', 'import "absent-package"')),
      /cannot be loaded: .*absent-package/,
    );
  });
});
