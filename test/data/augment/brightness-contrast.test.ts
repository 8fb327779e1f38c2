import * as assert from 'node:assert/strict';
import { BrightnessContrast } from '../../../src/data/augment/brightness-contrast';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, behavesLikeAnAugmentation, randomImages, replay, toArray } from './support';

describe('BrightnessContrast', () => {
  behavesLikeAnAugmentation(() => new BrightnessContrast({ brightness: 0.8, contrast: 0.8 }), { clamps: true });

  it('follows its formula', () => {
    const images = randomImages(6, 3, 4, 5);
    for (const [brightness, contrast, clamp] of [
      [0.4, 0.6, true],
      [1.5, 1.2, false],
    ] as const) {
      const draw = replay(1, 6);
      const factors = [brightness, contrast].map((strength) => {
        const low = Math.max(0, 1 - strength);
        return draw().map((u) => low + u * (1 + strength - low));
      });
      const expected = toArray(images).map((image, i) => {
        const bright = image.map((plane) => plane.map((row) => row.map((x) => x * factors[0][i])));
        const mean = bright.flat(2).reduce((sum, x) => sum + x, 0) / bright.flat(2).length;
        return bright.map((plane) =>
          plane.map((row) =>
            row.map((x) => {
              const y = factors[1][i] * (x - mean) + mean;
              return clamp ? Math.min(1, Math.max(0, y)) : y;
            }),
          ),
        );
      });
      assertClose(apply(new BrightnessContrast({ brightness, contrast, clamp }), images), expected);
    }
  });

  it('changes nothing by default', () => {
    const images = randomImages(3, 1, 4, 4);
    assertClose(apply(new BrightnessContrast(), images), toArray(images), 1e-6);
  });

  it('rejects strengths that are negative or no numbers', () => {
    for (const wrong of [-0.1, NaN, Infinity]) {
      assert.throws(() => new BrightnessContrast({ brightness: wrong }), /brightness/);
      assert.throws(() => new BrightnessContrast({ contrast: wrong }), InvalidArgumentError);
    }
  });
});
