import * as assert from 'node:assert/strict';
import { BrightnessContrast } from '../../../src/data/augment/brightness-contrast';
import { Compose } from '../../../src/data/augment/compose';
import { GaussianNoise } from '../../../src/data/augment/gaussian-noise';
import { Normalize } from '../../../src/data/augment/normalize';
import { Generator } from '../../../src/torch';
import { apply, behavesLikeAnAugmentation, randomImages } from './support';

describe('Compose', () => {
  const parts = () => [
    new BrightnessContrast({ brightness: 0.5 }),
    new GaussianNoise(),
    new Normalize({ mean: 0.5, std: 0.25 }),
  ];
  behavesLikeAnAugmentation(() => new Compose({ augmentations: parts() }));

  it('does one after another with the same generator', () => {
    const images = randomImages(4, 1, 5, 5);
    const generator = new Generator({ seed: 1 });
    const expected = parts().reduce((batch, part) => part.apply(batch, generator), images);
    assert.ok(expected.equal(apply(new Compose({ augmentations: parts() }), images)));
  });

  it('gives a copy when there is nothing to do', () => {
    const images = randomImages(2, 1, 3, 3);
    const copy = apply(new Compose({ augmentations: [] }), images);
    assert.ok(copy.equal(images));
    copy.zero_();
    assert.ok(!copy.equal(images));
  });

  it('is not changed by changing the list it was made from', () => {
    const list = parts();
    const compose = new Compose({ augmentations: list });
    list.pop();
    assert.equal(compose.augmentations.length, 3);
  });
});
