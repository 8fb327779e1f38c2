import * as assert from 'node:assert/strict';
import { Normalize } from '../../../src/data/augment/normalize';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, randomImages, toArray } from './support';

describe('Normalize', () => {
  it('subtracts and divides, by one number or one a channel', () => {
    const images = randomImages(2, 3, 4, 5);
    const each = (mean: number[], std: number[]) =>
      toArray(images).map((image) =>
        image.map((plane, c) => plane.map((row) => row.map((x) => (x - mean[c]) / std[c]))),
      );
    assertClose(apply(new Normalize({ mean: 0.2, std: 0.5 }), images), each([0.2, 0.2, 0.2], [0.5, 0.5, 0.5]));
    assertClose(
      apply(new Normalize({ mean: [0.1, 0.2, 0.3], std: [1, 0.5, 2] }), images),
      each([0.1, 0.2, 0.3], [1, 0.5, 2]),
    );
    assertClose(apply(new Normalize({ mean: [0.1, 0.2, 0.3], std: 2 }), images), each([0.1, 0.2, 0.3], [2, 2, 2]));
  });

  it('rejects other numbers of channels and values that make no sense', () => {
    const images = randomImages(2, 3, 4, 5);
    assert.throws(() => apply(new Normalize({ mean: [0, 0], std: 1 }), images), /2 values of mean.*3 channels/);
    for (const std of [0, -1, NaN, Infinity, [1, 0]])
      assert.throws(() => new Normalize({ mean: 0, std }), InvalidArgumentError);
    for (const mean of [NaN, Infinity, [0, NaN]])
      assert.throws(() => new Normalize({ mean, std: 1 }), InvalidArgumentError);
  });
});
