import assert from 'node:assert/strict';
import { InvalidArgumentError } from '../../src/torch';
import { checkRecipeRun, defineRecipe, isRecipe, RESERVED_OPTIONS, type OptionDeclarations } from '../../src/train';

describe('defineRecipe', () => {
  const define = (name: string, options: OptionDeclarations = {}): unknown =>
    defineRecipe({ name, description: '', options, build: () => ({}) as never });

  it('marks recipes', () => {
    assert.ok(isRecipe(define('my-recipe_1.2', { batchSize: 3 })));
    for (const other of [null, undefined, 3, {}, { name: 'x', build: () => ({}) }]) assert.ok(!isRecipe(other));
  });

  it('names what a recipe without types lacks', () => {
    for (const parts of [{ build: () => ({}) }, { options: {} }]) {
      assert.throws(
        () => defineRecipe({ name: 'a', description: '', ...parts } as never),
        /recipe 'a' needs 'options' .* and 'build'/,
      );
    }
  });

  it('refuses names that cannot be folders', () => {
    for (const name of ['', '.', '..', 'a/b', 'a b', '.hidden'])
      assert.throws(() => define(name), InvalidArgumentError);
  });

  it('refuses options that the command line keeps, and names that have no flag', () => {
    for (const name of RESERVED_OPTIONS)
      assert.throws(() => define('a', { [name]: 1 }), new RegExp(`'${name}' is taken`));
    for (const name of ['batch_size', 'Batch', '2d', 'batch-size']) {
      assert.throws(() => define('a', { [name]: 1 }), /is not a camelCase name/);
    }
  });
});

describe('checkRecipeRun', () => {
  const step = (): void => undefined;
  const run = { data: { next: step }, views: step, method: { step }, optimizer: { step }, state: {}, steps: 1 };

  it('passes a run on', () => {
    assert.equal(checkRecipeRun(run, 'a'), run);
  });

  it('names what is missing', () => {
    const cases: [unknown, RegExp][] = [
      [
        undefined,
        /^recipe 'a': build must return data, views, method, optimizer, state, and steps or epochs; it returned undefined$/,
      ],
      [{ ...run, data: undefined }, /; 'data' is not an object$/],
      [{ ...run, state: null }, /; 'state' is not an object$/],
      [{ ...run, views: {} }, /; 'views' is not a function$/],
      [{ ...run, method: {} }, /; 'method' has no method 'step'$/],
    ];
    for (const [given, message] of cases) {
      assert.throws(
        () => checkRecipeRun(given, 'a'),
        (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
        String(message),
      );
    }
  });
});
