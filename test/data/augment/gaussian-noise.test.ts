import * as assert from 'node:assert/strict';
import { GaussianNoise } from '../../../src/data/augment/gaussian-noise';
import { torch } from '../../../src/torch';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, behavesLikeAnAugmentation, device, randomImages, replay } from './support';

describe('GaussianNoise', () => {
  behavesLikeAnAugmentation(() => new GaussianNoise());
  describe('with clamp', () =>
    behavesLikeAnAugmentation(() => new GaussianNoise({ sigma: [0.2, 0.9], clamp: true }), { clamps: true }));

  it('adds noise of the drawn strength to each image, with mean 0', () => {
    const images = torch.full([4, 1, 100, 100], 0.5, { device });
    const sigmas = replay(1, 4)().map((u) => 0.1 + 0.4 * u);
    const noise = apply(new GaussianNoise({ sigma: [0.1, 0.5] }), images)
      .sub_(images)
      .flatten(1);
    const deviations = Array.from(noise.std([1]).dataSync(), Number);
    const means = Array.from(noise.mean([1]).dataSync(), Number);
    sigmas.forEach((sigma, i) => {
      // Ten thousand samples: standard errors σ/141 and σ/100.
      assert.ok(Math.abs(deviations[i] - sigma) < (5 * sigma) / 141);
      assert.ok(Math.abs(means[i]) < (5 * sigma) / 100);
    });
  });

  it('changes nothing at strength 0', () => {
    const images = randomImages(3, 1, 4, 4);
    assert.ok(apply(new GaussianNoise({ sigma: [0, 0] }), images).equal(images));
  });

  it('rejects strengths that are negative, infinite or in the wrong order', () => {
    for (const sigma of [
      [-1, 1],
      [0.2, 0.1],
      [0, Infinity],
      [NaN, 1],
      [0, NaN],
    ] as const) {
      assert.throws(() => new GaussianNoise({ sigma }), InvalidArgumentError);
    }
  });
});
