import assert from 'node:assert/strict';
import { InvalidArgumentError } from '../../src/torch';
import { defineRecipe, isRecipe, RESERVED_OPTIONS, type OptionDeclarations } from '../../src/train';

describe('defineRecipe', () => {
  const define = (name: string, options: OptionDeclarations = {}): unknown =>
    defineRecipe({ name, description: '', options, build: () => ({}) as never });

  it('marks recipes', () => {
    assert.ok(isRecipe(define('my-recipe_1.2', { batchSize: 3 })));
    for (const other of [null, undefined, 3, {}, { name: 'x', build: () => ({}) }]) assert.ok(!isRecipe(other));
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
