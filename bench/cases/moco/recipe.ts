/**
 * What both sides of the case train: examples/moco-fashion-mnist with its defaults, save that the learning rate has no
 * schedule. PyTorch's side gets it as options.
 */
export const recipe = {
  /** Images a step; each is seen in two views. */
  batch: 128,
  /** Steps of one run. */
  steps: 20,
  /** The steps, from the first, whose losses are compared. */
  stepsCompared: 5,
  imageSize: 28,
  widths: [32, 64, 128],
  stemStride: 2,
  /** The last image is averaged into this many by this many fields. */
  poolSize: 2,
  embeddingSize: 64,
  queueSize: 1024,
  temperature: 0.1,
  /** The limit of the momentum, which rises as (1 + s) / (10 + s). */
  momentum: 0.95,
  /** Groups that batch normalisation splits a batch into. */
  splits: 2,
  /** Whether each view is once the query and once the key. */
  symmetric: false,
  /** Whether the other keys of the batch are negatives too. */
  inBatchNegatives: true,
  learningRate: 1.5e-3,
  /** Of weights; not of biases and batch normalisation. */
  weightDecay: 1e-4,
};
