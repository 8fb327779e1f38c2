/** Momentum contrast with a choice of norms: `kontrast train examples/norm-study/recipe.ts --norm group`. See README.md beside this file. */
import * as data from 'kontrast/data';
import { MoCo, NFResidualEncoder, ProjectionHead, ResidualEncoder, type BatchNormAnswer } from 'kontrast/models';
import { decayGroups, type Norm2d } from 'kontrast/norm';
import { AdamW, WarmupCosine } from 'kontrast/optim';
import { Generator } from 'kontrast/torch';
import { choice, choosePrecision, defineRecipe, option } from 'kontrast/train';

/** How the encoder normalises, and what keeps its batch statistics from giving the positive away. */
interface SetUp {
  /** `'norm-free'` is an encoder of its own. */
  norm: Norm2d | 'norm-free';
  answer: BatchNormAnswer;
  weightStandardized?: boolean;
}

/** What norms depend on besides their features. */
interface Course {
  /** The weight of the newest batch in running statistics. */
  momentum: number;
  /** How many batches at the start are normalised by their own statistics, where the layer has such a phase. */
  warmUp: number;
  splits: number;
}

/** Running statistics in the key encoder, or nothing that a batch shares: what the norm allows. */
const setUps = {
  batch: ({ momentum }) => ({ norm: { name: 'batch', momentum }, answer: 'none' }),
  split: ({ momentum, splits }) => ({ norm: { name: 'split', momentum, splits }, answer: 'shuffle-split' }),
  eman: ({ momentum }) => ({ norm: { name: 'batch', momentum }, answer: 'eman' }),
  renorm: ({ momentum, warmUp }) => ({
    norm: { name: 'renorm', momentum, plainBatches: warmUp, rampR: warmUp, rampD: warmUp, eps: 1e-3 },
    answer: 'eman',
  }),
  'iterative-whitening': ({ momentum }) => ({
    norm: { name: 'iterative-whitening', momentum, groups: 4 },
    answer: 'eman',
  }),
  power: ({ momentum, warmUp }) => ({ norm: { name: 'power', momentum, warmUp }, answer: 'eman' }),
  'batch-channel': ({ momentum }) => ({
    norm: { name: 'batch-channel', momentum },
    weightStandardized: true,
    answer: 'eman',
  }),
  group: () => ({ norm: 'group', answer: 'none' }),
  layer: () => ({ norm: 'layer', answer: 'none' }),
  instance: () => ({ norm: 'instance', answer: 'none' }),
  'filter-response': () => ({ norm: 'filter-response', answer: 'none' }),
  'norm-free': () => ({ norm: 'norm-free', answer: 'none' }),
} satisfies Record<string, (course: Course) => SetUp>;

export type NormName = keyof typeof setUps;

/** As many groups as the square root of the batch size, as a power of two, at most 8: groups of 4 samples for 8, 8 for 32, 32 for 256. */
function splitsFor(batchSize: number): number {
  return Math.min(8, 2 ** Math.floor(Math.log2(batchSize) / 2));
}

export default defineRecipe({
  name: 'norm-study',
  description: 'Momentum contrast on Fashion-MNIST with one of twelve norms, for batches of any size.',
  options: {
    norm: choice(Object.keys(setUps) as [NormName, ...NormName[]], "the encoder's norm"),
    images: option(12_800, 'training images, the first ones', { integer: true, minimum: 2, maximum: 60_000 }),
    labelled: option(5000, 'how many of them have labels for the kNN', { integer: true, minimum: 1 }),
    testImages: option(10_000, 'test images, the first ones', { integer: true, minimum: 1, maximum: 10_000 }),
    epochs: option(1, 'passes over the training images', { above: 0 }),
    batchSize: option(32, 'images a step', { integer: true, minimum: 4 }),
    learningRate: option(3e-3, 'the highest learning rate for batches of 128; grows with the root of the size', {
      above: 0,
    }),
    weightDecay: option(1e-4, 'of convolutions and linear layers', { minimum: 0 }),
    widths: option([16, 32, 64], "channels of the encoder's stages", { integer: true, minimum: 1 }),
    embeddingSize: option(64, 'numbers an embedding', { integer: true, minimum: 1 }),
    queueSize: option(1024, 'keys kept as negatives', { integer: true, minimum: 1 }),
    momentum: option(0.97, 'what the key encoder keeps of itself over 128 images', { minimum: 0, maximum: 1 }),
    statisticsMomentum: option(0.9, 'what running statistics keep of themselves over 128 images', {
      minimum: 0,
      maximum: 1,
    }),
    warmUp: option(0.2, 'share of the steps in which renorm and power norm take statistics of the batch alone', {
      minimum: 0,
      maximum: 1,
    }),
    temperature: option(0.2, 'of the contrastive loss', { above: 0 }),
    precision: choice(['float32', 'bfloat16', 'auto'], 'what to compute in; auto is bfloat16 where it is quicker'),
  },

  build(options, { device, seed, log }) {
    const { batchSize, embeddingSize: outputSize, widths } = options;
    const train = data.loadFashionMnist({ split: 'train', device, log }).subset(options.images);
    const test = data.loadFashionMnist({ split: 'test', device, log }).subset(options.testImages);
    const batches = new data.DataLoader({ set: train, batchSize, dropLast: true, seed });
    const steps = Math.max(1, Math.round(options.epochs * batches.batchesPerEpoch));
    // What is kept over 128 images is the same for all batch sizes, so that only the number of steps differs.
    const share = batchSize / 128;

    const splits = splitsFor(batchSize);
    const setUp: SetUp = setUps[options.norm]({
      momentum: 1 - options.statisticsMomentum ** share,
      warmUp: Math.round(options.warmUp * steps),
      splits,
    });
    const createEncoder = () => {
      const shape = { inChannels: 1, widths, stemStride: 2, poolSize: 2 };
      const { norm, weightStandardized } = setUp;
      return norm === 'norm-free'
        ? // SkipInit's branches, which start at 0, would hardly have come in by the end of so short a training.
          new NFResidualEncoder({ ...shape, skipInit: false })
        : new ResidualEncoder({ ...shape, norm, weightStandardized });
    };
    const moco = new MoCo({
      encoder: createEncoder,
      // Without a norm, so that the encoder's is the only one.
      head: (inputSize) => new ProjectionHead({ inputSize, outputSize }),
      queueSize: options.queueSize,
      // The queue's keys are of earlier key encoders. If they were the only negatives, a head without a norm would learn to tell the steps
      // apart rather than the images, and all embeddings of a step would become one.
      inBatchNegatives: true,
      temperature: options.temperature,
      momentum: options.momentum ** share,
      batchNorm: setUp.answer,
      splits,
      seed,
      device,
      memoryFormat: 'channels_last',
    });
    const untrained = createEncoder().to(device);
    untrained.loadStateDict(moco.encoder.stateDict());

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
    const optimizer = new AdamW(decayGroups(moco.pair.query, { weightDecay: options.weightDecay }), {
      lr: options.learningRate * Math.sqrt(share),
    });
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
