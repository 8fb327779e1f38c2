/**
 * Writes what both sides start from into the folder given as argument: the state of the method before the first step
 * (weights, queue, random numbers), and the batches: two augmented views each, float32 [steps, 2, batch, 1, size, size].
 *
 * The images are soft random blobs: what is drawn on them changes no time, and they need no data set.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { BrightnessContrast, Compose, Normalize, RandomResizedCrop } from '../../../src/data';
import { Generator, manualSeed, scope, torch, writeSafetensors } from '../../../src/torch';
import { files, makeMoCo } from './method';
import { recipe } from './recipe';

const folder = process.argv[2];
const { steps, batch, imageSize } = recipe;

manualSeed(1);
const moco = makeMoCo();
writeSafetensors(path.join(folder, files.state), moco.stateDict().tensors);

scope(() => {
  const generator = new Generator({ seed: 2 });
  const coarse = torch.rand([steps * batch, 1, 6, 6], { generator });
  const images = torch.upsampleBicubic2d(coarse, [imageSize, imageSize], false).clamp(0, 1);
  const augmentation = new Compose({
    augmentations: [
      new RandomResizedCrop({ scale: [0.35, 1] }),
      new BrightnessContrast({ brightness: 0.8, contrast: 0.8 }),
      new Normalize({ mean: [0.5], std: [0.25] }),
    ],
  });
  const views = [0, 1].map(() =>
    augmentation.apply(images, generator).view([steps, 1, batch, 1, imageSize, imageSize]),
  );
  writeFileSync(path.join(folder, files.views), torch.cat(views, 1).bytesSync());
});
