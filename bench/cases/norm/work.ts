/** What both sides of the case normalise: shapes, layers, and which of them may take how long. */

/** A batch: images in either layout, or vectors. */
export interface Batch {
  shape: readonly number[];
  channelsLast: boolean;
  /** Forward and backward passes of one run. */
  steps: number;
}

const images = { shape: [64, 64, 32, 32], steps: 6 };

export const batches = {
  contiguous: { ...images, channelsLast: false },
  'channels-last': { ...images, channelsLast: true },
  vectors: { shape: [256, 512], channelsLast: false, steps: 1000 },
  /** For what is done to images before any network sees them. */
  pictures: { shape: [64, 3, 96, 96], channelsLast: false, steps: 6 },
} as const satisfies Record<string, Batch>;

export type BatchName = keyof typeof batches;

// Vectors first: after their many steps a layer's JavaScript is compiled, before the few steps of images.
const all = ['vectors', 'contiguous', 'channels-last'] as const;
const ofImages = ['contiguous', 'channels-last'] as const;

/**
 * What a layer's time is divided by: LibTorch's own operator for the same layer, its batch norm in training, a convolution and that
 * behind it, or what PyTorch's users write in Python.
 */
export type Against = 'itself' | 'batch norm' | 'convolution and batch norm' | 'python';

/** One layer of the case. */
export interface Layer {
  batches: readonly BatchName[];
  against: Against;
  /** The goal: its time divided by the other's. */
  atMost: number;
  /** Steps of one run, where a step takes long. */
  steps?: number;
}

export const layers = {
  BatchNorm: { batches: all, against: 'itself', atMost: 1.05 },
  LayerNorm: { batches: all, against: 'itself', atMost: 1.05 },
  GroupNorm: { batches: all, against: 'itself', atMost: 1.05 },
  InstanceNorm: { batches: ofImages, against: 'itself', atMost: 1.05 },
  RMSNorm: { batches: all, against: 'itself', atMost: 1.05 },
  SplitBatchNorm: { batches: all, against: 'batch norm', atMost: 1.15 },
  'SplitBatchNorm, interleaved': { batches: all, against: 'batch norm', atMost: 1.15 },
  GhostBatchNorm: { batches: all, against: 'batch norm', atMost: 1.15 },
  BatchRenorm: { batches: all, against: 'batch norm', atMost: 1.5 },
  CrossIterationBatchNorm: { batches: all, against: 'batch norm', atMost: 1.5 },
  CrossMiniBatchNorm: { batches: all, against: 'batch norm', atMost: 1.5 },
  FilterResponseNorm: { batches: ofImages, against: 'batch norm', atMost: 1.5 },
  BatchChannelNorm: { batches: ofImages, against: 'batch norm', atMost: 1.5 },
  UncenteredBatchNorm: { batches: ['vectors'], against: 'batch norm', atMost: 1.5 },
  UnMixTns: { batches: ofImages, against: 'batch norm', atMost: 1.5 },
  DomainBatchNorm: { batches: all, against: 'batch norm', atMost: 1.5 },
  ConvBN2d: { batches: ofImages, against: 'convolution and batch norm', atMost: 1.5 },
  'ConvBN2d, tune': { batches: ofImages, against: 'convolution and batch norm', atMost: 1.5 },
  BatchStyles: { batches: ['pictures'], against: 'python', atMost: 1 },
  SyncBatchNorm: { batches: all, against: 'batch norm', atMost: 1.5 },
  CholeskyWhitening: { batches: all, against: 'python', atMost: 1, steps: 2 },
  IterativeWhitening: { batches: all, against: 'python', atMost: 1, steps: 2 },
  PowerNorm: { batches: all, against: 'python', atMost: 1 },
} as const satisfies Record<string, Layer>;

export type LayerName = keyof typeof layers;

/** How the layers are set up. */
export const settings = {
  groups: 32,
  splits: 2,
  /** A quarter of the batch. */
  ghosts: 4,
  window: 4,
  microBatches: 4,
  whiteningGroups: 4,
  iterations: 5,
  /** Of the frequency plane. */
  areaRatio: 0.25,
  eps: 1e-5,
};
