import assert from 'node:assert/strict';
import * as path from 'node:path';
import { loadRecipe, parseOptions } from '../../src/train';

describe('examples/moco-fashion-mnist', () => {
  const file = path.resolve(__dirname, '..', '..', 'examples', 'moco-fashion-mnist', 'recipe.ts');

  it('is a recipe', async () => {
    const { recipe } = await loadRecipe(file);
    assert.equal(recipe.name, 'moco-fashion-mnist');
    assert.ok('epochs' in recipe.options);
  });

  it('refuses options that make no sense before it loads anything', async () => {
    const { recipe } = await loadRecipe(file);
    const refused: [string, string, RegExp][] = [
      ['--epochs', '0', /--epochs needs a number above 0, not 0/],
      ['--pool-size', '8', /--pool-size needs a whole number of at least 1 and at most 7, not 8/],
      ['--widths', '32,0', /--widths needs a list .* at least 1, not 32,0/],
      ['--learning-rate', '0', /--learning-rate needs a number above 0/],
      ['--weight-decay', '-1', /--weight-decay needs a number of at least 0/],
      ['--temperature', '0', /--temperature needs a number above 0/],
    ];
    for (const [flag, value, message] of refused) {
      assert.throws(() => parseOptions(recipe.options, [flag, value]), message);
    }
    assert.deepEqual(parseOptions(recipe.options, ['--epochs', '0.1', '--pool-size', '4']), {
      epochs: 0.1,
      poolSize: 4,
    });
  });
});
