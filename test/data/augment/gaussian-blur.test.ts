import * as assert from 'node:assert/strict';
import { GaussianBlur } from '../../../src/data/augment/gaussian-blur';
import { torch } from '../../../src/torch';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, behavesLikeAnAugmentation, device, randomImages, replay, toArray } from './support';

describe('GaussianBlur', () => {
  behavesLikeAnAugmentation(() => new GaussianBlur({ sigma: [0.3, 2], probability: 0.7 }), { clamps: true });

  it('is the weighted mean of all pixels by distance', () => {
    const images = randomImages(5, 2, 6, 8);
    const draw = replay(1, 5);
    const sigmas = draw().map((u) => 0.3 + u * 1.7);
    const chosen = draw().map((u) => u < 0.6);
    assert.deepEqual(new Set(chosen), new Set([true, false]));
    const expected = toArray(images).map((image, i) => {
      if (!chosen[i]) return image;
      const weight = (d: number) => Math.exp(-(d * d) / (2 * sigmas[i] ** 2));
      return image.map((plane) =>
        plane.map((row, y) =>
          row.map((_, x) => {
            let sum = 0;
            let total = 0;
            plane.forEach((otherRow, v) =>
              otherRow.forEach((value, u) => {
                sum += weight(v - y) * weight(u - x) * value;
                total += weight(v - y) * weight(u - x);
              }),
            );
            return sum / total;
          }),
        ),
      );
    });
    assertClose(apply(new GaussianBlur({ sigma: [0.3, 2], probability: 0.6 }), images), expected);
  });

  it('leaves flat images flat, and all images with probability 0 exactly as they were', () => {
    const flat = torch.full([3, 1, 5, 6], 0.7, { device });
    assertClose(apply(new GaussianBlur({ probability: 1 }), flat), toArray(flat), 1e-6);
    for (const dtype of ['float32', 'float64'] as const) {
      const images = randomImages(3, 1, 5, 6).to(dtype);
      assert.ok(apply(new GaussianBlur({ probability: 0 }), images).equal(images));
    }
  });

  it('rejects widths that are not above 0, and probabilities outside [0, 1]', () => {
    for (const sigma of [
      [0, 1],
      [2, 1],
      [-1, 1],
      [1, Infinity],
      [NaN, 1],
    ] as const) {
      assert.throws(() => new GaussianBlur({ sigma }), /sigma/);
    }
    for (const probability of [-0.1, 1.1, NaN])
      assert.throws(() => new GaussianBlur({ probability }), InvalidArgumentError);
  });
});
