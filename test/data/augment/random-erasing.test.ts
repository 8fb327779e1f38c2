import * as assert from 'node:assert/strict';
import { RandomErasing } from '../../../src/data/augment/random-erasing';
import { torch } from '../../../src/torch';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply, assertClose, behavesLikeAnAugmentation, device, randomImages, replay, toArray } from './support';

describe('RandomErasing', () => {
  behavesLikeAnAugmentation(() => new RandomErasing({ probability: 0.8, scale: [0.2, 0.6] }), { clamps: true });

  it('erases the pixels whose centres lie in the drawn rectangle', () => {
    const count = 40;
    const [height, width] = [9, 12];
    const images = randomImages(count, 2, height, width);
    const draw = replay(1, count);
    const areas = draw().map((u) => (0.05 + u * 0.9) * height * width);
    const ratios = draw().map((u) => Math.exp(Math.log(0.2) + u * Math.log(25)));
    const tops = draw();
    const lefts = draw();
    const chosen = draw().map((u) => u < 0.75);
    const expected = toArray(images).map((image, i) => {
      const tall = Math.min(height, Math.sqrt(areas[i] * ratios[i]));
      const wide = Math.min(width, Math.sqrt(areas[i] / ratios[i]));
      const top = tops[i] * (height - tall);
      const left = lefts[i] * (width - wide);
      const within = (centre: number, start: number, length: number) => centre >= start && centre < start + length;
      return image.map((plane) =>
        plane.map((row, y) =>
          row.map((x, column) =>
            chosen[i] && within(y + 0.5, top, tall) && within(column + 0.5, left, wide) ? -0.5 : x,
          ),
        ),
      );
    });
    const augmentation = new RandomErasing({ probability: 0.75, scale: [0.05, 0.95], ratio: [0.2, 5], value: -0.5 });
    assertClose(apply(augmentation, images), expected);
  });

  it('erases all at scale 1 and ratio 1 of a square, nothing with probability 0', () => {
    const images = randomImages(4, 1, 6, 6);
    assert.ok(
      apply(new RandomErasing({ probability: 1, scale: [1, 1], ratio: [1, 1] }), images)
        .eq(0)
        .all()
        .itemSync(),
    );
    assert.ok(apply(new RandomErasing({ probability: 0 }), images).equal(images));
  });

  it('erases about the area asked for', () => {
    const images = torch.ones([4000, 1, 20, 20], { device });
    const erased = apply(new RandomErasing({ probability: 1, scale: [0.2, 0.2], ratio: [1, 1] }), images);
    assert.ok(Math.abs(1 - erased.mean().itemSync() - 0.2) < 0.005);
  });

  it('rejects settings out of range', () => {
    for (const scale of [
      [0, 0.5],
      [0.5, 1.5],
      [0.5, 0.2],
    ] as const) {
      assert.throws(() => new RandomErasing({ scale }), /scale/);
    }
    for (const ratio of [
      [0, 1],
      [2, 1],
      [1, NaN],
    ] as const)
      assert.throws(() => new RandomErasing({ ratio }), /ratio/);
    assert.throws(() => new RandomErasing({ probability: 2 }), /probability/);
    assert.throws(() => new RandomErasing({ value: NaN }), InvalidArgumentError);
  });
});
