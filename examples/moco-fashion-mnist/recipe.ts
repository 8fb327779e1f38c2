/** Momentum contrast on Fashion-MNIST: `kontrast train examples/moco-fashion-mnist/recipe.ts`. See README.md beside this file. */
import * as data from 'kontrast/data';
import { MoCo, ProjectionHead, ResidualEncoder } from 'kontrast/models';
import type { NormFactory } from 'kontrast/norm';
import { AdamW, risingMomentum, WarmupCosine } from 'kontrast/optim';
import { Generator } from 'kontrast/torch';
import { choice, choosePrecision, defineRecipe, option } from 'kontrast/train';

export default defineRecipe({
  name: 'moco-fashion-mnist',
  description: 'Momentum contrast on Fashion-MNIST: learns to tell pictures of clothing apart without a label.',
  options: {
    epochs: option(7, 'passes over the 60,000 images', { above: 0 }),
    batchSize: option(128, 'images a step', { integer: true, minimum: 2 }),
    learningRate: option(1.5e-3, 'the highest learning rate', { above: 0 }),
    weightDecay: option(1e-4, 'of convolutions and linear layers', { minimum: 0 }),
    widths: option([32, 64, 128], "channels of the encoder's stages", { integer: true, minimum: 1 }),
    poolSize: option(2, 'the last image (4 by 4 with three stages) is averaged into this many by this many fields', {
      integer: true,
      minimum: 1,
      maximum: 7,
    }),
    embeddingSize: option(64, 'numbers an embedding', { integer: true, minimum: 1 }),
    queueSize: option(1024, 'keys kept as negatives', { integer: true, minimum: 1 }),
    momentum: option(0.95, 'how slowly the key encoder follows', { minimum: 0, maximum: 1 }),
    temperature: option(0.1, 'of the contrastive loss', { above: 0 }),
    cropScale: option(0.35, 'the smallest crop, as a share of the image', { minimum: 0.01, maximum: 1 }),
    jitter: option(0.8, 'strength of the changes of brightness and contrast', { minimum: 0 }),
    precision: choice(['auto', 'bfloat16', 'float32'], 'what to compute in; auto is bfloat16 where it is quicker'),
  },

  build(options, { device, seed, log }) {
    const train = data.loadFashionMnist({ split: 'train', device, log });
    const test = data.loadFashionMnist({ split: 'test', device, log });
    const batches = new data.DataLoader({ set: train, batchSize: options.batchSize, dropLast: true, seed });
    const steps = Math.max(1, Math.round(options.epochs * batches.batchesPerEpoch));

    const random = new Generator({ seed });
    const normalize = new data.Normalize({ mean: 0.286, std: 0.353 });
    const augmentation = new data.Compose({
      augmentations: [
        new data.RandomResizedCrop({ scale: [options.cropScale, 1], flipProbability: 0.5 }),
        new data.BrightnessContrast({ brightness: options.jitter, contrast: options.jitter }),
      ],
    });
    const twoViews = new data.TwoViews({
      augmentation: new data.Compose({ augmentations: [augmentation, normalize] }),
    });

    const createEncoder = (norm?: NormFactory) =>
      new ResidualEncoder({ inChannels: 1, widths: options.widths, stemStride: 2, poolSize: options.poolSize, norm });
    const moco = new MoCo({
      encoder: ({ norm2d }) => createEncoder(norm2d),
      head: (inputSize, { norm1d }) =>
        new ProjectionHead({ inputSize, outputSize: options.embeddingSize, norm: norm1d }),
      queueSize: options.queueSize,
      temperature: options.temperature,
      momentum: risingMomentum({ limit: options.momentum }),
      inBatchNegatives: true,
      splits: 2,
      seed,
      device,
      memoryFormat: 'channels_last',
    });
    const untrained = createEncoder().to(device);
    untrained.loadStateDict(moco.encoder.stateDict());

    const parameters = moco.parameters();
    const optimizer = new AdamW(
      [
        { parameters: parameters.filter(({ ndim }) => ndim > 1), weightDecay: options.weightDecay },
        { parameters: parameters.filter(({ ndim }) => ndim <= 1), weightDecay: 0 },
      ],
      { lr: options.learningRate },
    );
    const precision = choosePrecision(options.precision, device);
    return {
      data: batches,
      views: ({ images }: data.Batch) => twoViews.pair(data.toFloat(images), random),
      method: moco,
      optimizer,
      schedule: new WarmupCosine({ optimizer, stepsWarmup: Math.round(0.05 * steps), stepsTotal: steps }),
      state: { moco, random },
      steps,
      precision,
      evaluation: {
        encoder: moco.encoder,
        untrained,
        train,
        test,
        normalize: (images) => normalize.apply(images, random),
        augmentation,
        autocast: precision === 'bfloat16' ? 'bfloat16' : undefined,
        seed,
      },
    };
  },
});
