/** Momentum contrast with mixed negatives: `kontrast train examples/moco-hard-negatives/recipe.ts`. See README.md beside this file. */
import * as data from 'kontrast/data';
import { MoCo, ProjectionHead, ResidualEncoder } from 'kontrast/models';
import { FeatureTransformation, MixedNegatives, MoCHi } from 'kontrast/negatives';
import type { NormFactory } from 'kontrast/norm';
import { AdamW, risingMomentum, WarmupCosine } from 'kontrast/optim';
import { Generator } from 'kontrast/torch';
import { choice, choosePrecision, defineRecipe, option } from 'kontrast/train';

export default defineRecipe({
  name: 'moco-hard-negatives',
  description: "Momentum contrast on Fashion-MNIST, with the queue's negatives as they are or mixed.",
  options: {
    negatives: choice(['queue', 'mochi', 'ft', 'both'], 'which negatives training sees'),
    images: option(20_000, 'training images, the first ones', { integer: true, minimum: 2, maximum: 60_000 }),
    labelled: option(5000, 'how many of them have labels for the kNN and the probe', { integer: true, minimum: 1 }),
    testImages: option(10_000, 'test images, the first ones', { integer: true, minimum: 1, maximum: 10_000 }),
    epochs: option(4, 'passes over the training images', { above: 0 }),
    batchSize: option(128, 'images a step', { integer: true, minimum: 2 }),
    learningRate: option(3e-3, 'the highest learning rate', { above: 0 }),
    weightDecay: option(1e-4, 'of convolutions and linear layers', { minimum: 0 }),
    widths: option([16, 32, 64], "channels of the encoder's stages", { integer: true, minimum: 1 }),
    embeddingSize: option(64, 'numbers an embedding', { integer: true, minimum: 1 }),
    queueSize: option(1024, 'keys kept as negatives', { integer: true, minimum: 1 }),
    momentum: option(0.97, 'how slowly the key encoder follows', { minimum: 0, maximum: 1 }),
    temperature: option(0.2, 'of the contrastive loss', { above: 0 }),
    hardest: option(128, "MoCHi's N: of how many of a query's nearest mixes are made", { integer: true, minimum: 1 }),
    pairs: option(128, "MoCHi's s: mixes of two of them", { integer: true, minimum: 0 }),
    withQuery: option(16, "MoCHi's s': mixes of one with the query", { integer: true, minimum: 0 }),
    warmup: option(0.3, 'share of the training before MoCHi mixes', { minimum: 0, maximum: 1 }),
    keepHardest: option(false, 'whether MoCHi keeps only those hardest of the queue'),
    ftPositives: option(2, "FT's α for positives: the larger, the nearer to λ = 1.5", { minimum: 0.05 }),
    ftNegatives: option(1.6, "FT's α for the queue", { minimum: 0.05 }),
    precision: choice(['auto', 'bfloat16', 'float32'], 'what to compute in; auto is bfloat16 where it is quicker'),
  },

  build(options, { device, seed, log }) {
    const train = data.loadFashionMnist({ split: 'train', device, log }).subset(options.images);
    const test = data.loadFashionMnist({ split: 'test', device, log }).subset(options.testImages);
    const batches = new data.DataLoader({ set: train, batchSize: options.batchSize, dropLast: true, seed });
    const steps = Math.max(1, Math.round(options.epochs * batches.batchesPerEpoch));

    const random = new Generator({ seed });
    const normalize = new data.Normalize({ mean: 0.286, std: 0.353 });
    const augmentation = new data.Compose({
      augmentations: [
        new data.RandomResizedCrop({ scale: [0.35, 1], flipProbability: 0.5 }),
        new data.BrightnessContrast({ brightness: 0.8, contrast: 0.8 }),
      ],
    });
    const twoViews = new data.TwoViews({
      augmentation: new data.Compose({ augmentations: [augmentation, normalize] }),
    });

    const { negatives, hardest, pairs, withQuery } = options;
    // All that tells the methods apart.
    const objective = new MixedNegatives({
      mochi:
        negatives === 'mochi' || negatives === 'both'
          ? new MoCHi({ hardest, pairs, withQuery, warmup: Math.round(options.warmup * steps), seed })
          : undefined,
      featureTransformation:
        negatives === 'ft' || negatives === 'both'
          ? new FeatureTransformation({ positives: options.ftPositives, negatives: options.ftNegatives, seed })
          : undefined,
      keep: options.keepHardest && negatives !== 'queue' && negatives !== 'ft' ? 'hardest' : 'all',
      temperature: options.temperature,
    });

    const createEncoder = (norm?: NormFactory) =>
      new ResidualEncoder({ inChannels: 1, widths: options.widths, stemStride: 2, poolSize: 2, norm });
    const moco = new MoCo({
      encoder: ({ norm2d }) => createEncoder(norm2d),
      head: (inputSize, { norm1d }) =>
        new ProjectionHead({ inputSize, outputSize: options.embeddingSize, norm: norm1d }),
      objective,
      queueSize: options.queueSize,
      momentum: risingMomentum({ limit: options.momentum }),
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
        train: train.subset(Math.min(options.labelled, options.images)),
        test,
        normalize: (images) => normalize.apply(images, random),
        augmentation,
        autocast: precision === 'bfloat16' ? 'bfloat16' : undefined,
        pairs: Math.min(2000, options.testImages),
        seed,
      },
    };
  },
});
