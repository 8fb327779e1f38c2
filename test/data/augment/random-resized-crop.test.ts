import * as assert from 'node:assert/strict';
import { RandomResizedCrop, type RandomResizedCropOptions } from '../../../src/data/augment/random-resized-crop';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, behavesLikeAnAugmentation, randomImages, replay, toArray, type Images } from './support';

/** Reads a plane between its pixels, whose centres are at whole numbers. */
function bilinear(plane: number[][], y: number, x: number, padding: 'border' | 'zeros'): number {
  const [height, width] = [plane.length, plane[0].length];
  const clamp = (value: number, high: number) => Math.min(high, Math.max(0, value));
  if (padding === 'border') [y, x] = [clamp(y, height - 1), clamp(x, width - 1)];
  const [top, left] = [Math.floor(y), Math.floor(x)];
  let sum = 0;
  for (const row of [top, top + 1]) {
    for (const column of [left, left + 1]) {
      const weight = (1 - Math.abs(y - row)) * (1 - Math.abs(x - column));
      if (row >= 0 && row < height && column >= 0 && column < width) sum += weight * plane[row][column];
    }
  }
  return sum;
}

/** The augmentation in pixels, one result pixel at a time. */
function reference(images: Images, options: Required<RandomResizedCropOptions>, seed: number): Images {
  const [height, width] = [images[0][0].length, images[0][0][0].length];
  const draw = replay(seed, images.length);
  const between = (low: number, high: number) => draw().map((u) => low + u * (high - low));
  const areas = between(...(options.scale as [number, number]));
  const ratios = between(Math.log(options.ratio[0]), Math.log(options.ratio[1])).map(Math.exp);
  const across = draw();
  const down = draw();
  const flips = draw().map((u) => u < options.flipProbability);
  const angles = between(-options.rotation, options.rotation).map((degrees) => (degrees / 180) * Math.PI);
  const [outHeight, outWidth] = options.size;
  return images.map((image, i) => {
    const cropWidth = Math.min(width, Math.sqrt(areas[i] * height * width * ratios[i]));
    const cropHeight = Math.min(height, Math.sqrt((areas[i] * height * width) / ratios[i]));
    const centreX = cropWidth / 2 + across[i] * (width - cropWidth);
    const centreY = cropHeight / 2 + down[i] * (height - cropHeight);
    return image.map((plane) =>
      Array.from({ length: outHeight }, (_, row) =>
        Array.from({ length: outWidth }, (_, column) => {
          const dx = ((column + 0.5) / outWidth - 0.5) * cropWidth * (flips[i] ? -1 : 1);
          const dy = ((row + 0.5) / outHeight - 0.5) * cropHeight;
          const x = centreX + Math.cos(angles[i]) * dx - Math.sin(angles[i]) * dy;
          const y = centreY + Math.sin(angles[i]) * dx + Math.cos(angles[i]) * dy;
          return bilinear(plane, y - 0.5, x - 0.5, options.padding);
        }),
      ),
    );
  });
}

describe('RandomResizedCrop', () => {
  behavesLikeAnAugmentation(() => new RandomResizedCrop(), { clamps: true });

  const base = {
    scale: [0.1, 1],
    ratio: [0.5, 2],
    flipProbability: 0.5,
    rotation: 0,
    size: [6, 9],
    padding: 'border',
  } as const;
  const cases: [string, Partial<RandomResizedCropOptions>][] = [
    ['crops and flips', {}],
    ['gives another size', { size: [5, 4] }],
    ['enlarges', { size: [13, 20] }],
    ['cuts ratios off at the sides', { scale: [0.8, 1], ratio: [0.2, 5] }],
    ['pads with zeros', { padding: 'zeros' }],
    ['turns images that are not square', { rotation: 90 }],
    ['turns, padding with zeros', { rotation: 30, padding: 'zeros', scale: [1, 1] }],
  ];
  for (const [name, change] of cases) {
    it(`${name}, as a loop over pixels does`, () => {
      const images = randomImages(12, 2, 6, 9);
      const options = { ...base, ...change };
      assertClose(apply(new RandomResizedCrop(options), images), reference(toArray(images), options, 1));
    });
  }

  it('changes nothing with the whole image, and mirrors it exactly', () => {
    const images = randomImages(3, 1, 6, 6);
    const whole = { scale: [1, 1], ratio: [1, 1] } as const;
    assertClose(apply(new RandomResizedCrop(whole), images), toArray(images));
    const mirrored = apply(new RandomResizedCrop({ ...whole, flipProbability: 1 }), images);
    assertClose(mirrored, toArray(images.flip([3])));
  });

  it('turns about the centre, which stays', () => {
    const images = randomImages(64, 1, 5, 5);
    const turned = apply(new RandomResizedCrop({ scale: [1, 1], ratio: [1, 1], rotation: 180 }), images);
    assert.ok(!turned.allclose(images));
    assertClose(turned.narrow(2, 2, 1).narrow(3, 2, 1), toArray(images.narrow(2, 2, 1).narrow(3, 2, 1)));
  });

  it('rejects settings out of range', () => {
    const rejects = (options: RandomResizedCropOptions, part: string) =>
      assert.throws(
        () => new RandomResizedCrop(options),
        (error) => error instanceof InvalidArgumentError && error.message.includes(part),
      );
    rejects({ scale: [0, 1] }, 'scale');
    rejects({ scale: [0.5, 1.1] }, 'scale');
    rejects({ scale: [0.6, 0.5] }, 'scale');
    rejects({ scale: [0.5, NaN] }, 'scale');
    rejects({ ratio: [0, 1] }, 'ratio');
    rejects({ ratio: [2, 1] }, 'ratio');
    rejects({ flipProbability: 1.5 }, 'flipProbability');
    rejects({ rotation: -1 }, 'rotation');
    rejects({ rotation: 181 }, 'rotation');
    rejects({ size: [0, 5] }, 'size');
    rejects({ size: [5.5, 5] }, 'size');
    rejects({ padding: 'reflect' as 'border' }, 'padding');
  });
});
