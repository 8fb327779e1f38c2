import * as assert from 'node:assert/strict';
import { RandomHorizontalFlip } from '../../../src/data/augment/random-horizontal-flip';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, behavesLikeAnAugmentation, randomImages, replay, toArray } from './support';

describe('RandomHorizontalFlip', () => {
  behavesLikeAnAugmentation(() => new RandomHorizontalFlip(), { clamps: true });

  it('mirrors the chosen images', () => {
    const images = randomImages(12, 2, 4, 5);
    for (const probability of [0, 0.3, 1]) {
      const chosen = replay(1, 12)().map((u) => u < probability);
      const expected = toArray(images).map((image, i) =>
        chosen[i] ? image.map((plane) => plane.map((row) => [...row].reverse())) : image,
      );
      assertClose(apply(new RandomHorizontalFlip({ probability }), images), expected, 0);
    }
  });

  it('rejects probabilities outside [0, 1]', () => {
    for (const probability of [-0.1, 1.1, NaN]) {
      assert.throws(() => new RandomHorizontalFlip({ probability }), InvalidArgumentError);
    }
  });
});
