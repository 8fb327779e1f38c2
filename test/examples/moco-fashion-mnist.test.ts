import assert from 'node:assert/strict';
import * as path from 'node:path';
import { loadRecipe } from '../../src/train';

describe('examples/moco-fashion-mnist', () => {
  it('is a recipe', async () => {
    const file = path.resolve(__dirname, '..', '..', 'examples', 'moco-fashion-mnist', 'recipe.ts');
    const { recipe } = await loadRecipe(file);
    assert.equal(recipe.name, 'moco-fashion-mnist');
    assert.ok('epochs' in recipe.options);
  });
});
