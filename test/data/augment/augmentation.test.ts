import * as assert from 'node:assert/strict';
import { RandomHorizontalFlip } from '../../../src/data/augment/random-horizontal-flip';
import { torch } from '../../../src/torch';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { apply } from './support';

describe('Augmentation', () => {
  it('takes floating-point images [N, C, H, W] only, and says what to do with bytes', () => {
    const rejects = (images: ReturnType<typeof torch.zeros>, ...parts: string[]) =>
      assert.throws(
        () => apply(new RandomHorizontalFlip(), images),
        (error) =>
          error instanceof InvalidArgumentError &&
          ['RandomHorizontalFlip', ...parts].every((part) => error.message.includes(part)),
      );
    rejects(torch.zeros([2, 1, 4, 4], { dtype: 'uint8' }), 'uint8 [2, 1, 4, 4]', 'toFloat');
    rejects(torch.zeros([1, 4, 4]), 'float32 [1, 4, 4]');
  });
});
