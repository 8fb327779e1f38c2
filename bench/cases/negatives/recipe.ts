/** What all implementations of the case train, and how they mix. */
export const recipe = {
  /** Images a step; each is seen in two views. */
  batch: 256,
  /** Steps of one run. */
  steps: 3,
  imageSize: 28,
  widths: [32, 64, 128],
  embeddingSize: 128,
  queueSize: 16_384,
  temperature: 0.2,
  momentum: 0.99,
  /** Groups that batch normalisation splits a batch into. */
  splits: 2,
  learningRate: 1.5e-3,
  /** MoCHi (N, s, s′), as the paper's best. */
  mochi: { hardest: 1024, pairs: 1024, withQuery: 128 },
};

/** How the first convolution goes through the image, and into how many fields the last is averaged: the work of a step. */
export const encoders = {
  'default encoder': { stemStride: 1, poolSize: 1 },
  'quickstart encoder': { stemStride: 2, poolSize: 2 },
} as const;

/** Which negatives a step sees. */
export const methods = ['queue', 'mochi', 'mochi, ft', 'mochi, ft, filtered'] as const;

export type EncoderName = keyof typeof encoders;
export type Method = (typeof methods)[number];
