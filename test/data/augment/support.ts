/** What the tests of the augmentations share. */
import * as assert from 'node:assert/strict';
import type { Augmentation } from '../../../src/data/augment/augmentation';
import { Generator, memory, scope, torch, type Device, type Tensor } from '../../../src/torch';

export const device = (process.env.KONTRAST_TEST_DEVICE ?? 'cpu') as Device;

/** Random images in [0, 1]. */
export function randomImages(count: number, channels: number, height: number, width: number): Tensor {
  const generator = new Generator({ seed: 99 });
  return torch.rand([count, channels, height, width], { generator }).to(device);
}

export type Images = number[][][][];
export const toArray = (images: Tensor) => images.toArraySync() as unknown as Images;

export const apply = (augmentation: Augmentation, images: Tensor, seed = 1) =>
  augmentation.apply(images, new Generator({ seed }));

/** The numbers that an augmentation draws for `count` images from a seed: each call is the next parameter, in [0, 1). */
export function replay(seed: number, count: number): () => number[] {
  const generator = new Generator({ seed });
  return () => Array.from(torch.rand([count], { generator }).dataSync() as Float32Array);
}

export function assertClose(actual: Tensor, expected: Images, tolerance = 1e-5): void {
  const flat = expected.flat(3);
  const values = Array.from(actual.flatten().dataSync(), Number);
  assert.deepEqual(actual.shape, [
    expected.length,
    expected[0].length,
    expected[0][0].length,
    expected[0][0][0].length,
  ]);
  values.forEach((value, i) => {
    assert.ok(Math.abs(value - flat[i]) <= tolerance, `element ${i} is ${value} instead of ${flat[i]}`);
  });
}

/** What holds for all augmentations with random settings. */
export function behavesLikeAnAugmentation(make: () => Augmentation, { clamps = false } = {}): void {
  it('gives the same for the same seed, other results for another seed, and moves the generator on', () => {
    const images = randomImages(8, 2, 7, 9);
    const first = apply(make(), images);
    assert.ok(first.equal(apply(make(), images)));
    assert.ok(!first.equal(apply(make(), images, 2)));
    const generator = new Generator({ seed: 1 });
    assert.ok(first.equal(make().apply(images, generator)));
    assert.ok(!first.equal(make().apply(images, generator)));
  });

  it('changes equal images differently', () => {
    const images = randomImages(1, 1, 8, 8).expand([16, 1, 8, 8]).contiguous();
    const results = new Set(toArray(apply(make(), images)).map((image) => JSON.stringify(image)));
    assert.ok(results.size > 1);
  });

  it('leaves its input and frees all but the result', () => {
    const images = randomImages(3, 2, 7, 9);
    const copy = images.clone();
    const before = memory().liveTensors;
    const result = apply(make(), images);
    assert.equal(memory().liveTensors, before + 1);
    assert.ok(images.equal(copy));
    assert.deepEqual([result.dtype, result.device, result.shape], [images.dtype, images.device, [3, 2, 7, 9]]);
  });

  it('takes float64 and an empty batch', () => {
    const images = randomImages(3, 2, 7, 9);
    const wide = apply(make(), images.to('float64'));
    assert.equal(wide.dtype, 'float64');
    assert.ok(wide.to('float32').allclose(apply(make(), images), 1e-4, 1e-4));
    assert.deepEqual(apply(make(), torch.zeros([0, 2, 7, 9], { device })).shape, [0, 2, 7, 9]);
  });

  if (clamps) {
    it('stays within [0, 1]', () => {
      const result = apply(make(), randomImages(64, 1, 5, 5));
      scope(() => assert.ok(result.min().itemSync() >= 0 && result.max().itemSync() <= 1));
    });
  }
}
