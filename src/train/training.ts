/** What a {@link Trainer} needs to be told: data, method, optimiser, and how long. */
import type { Tensor } from '../torch';
import type { Stateful } from '../torch/state';
import type { Parameter } from '../nn';
import type { Part } from './checkpoint';

/** A batch that knows which rows of its data set it holds. */
export interface IndexedBatch {
  /** The rows, int64 [N]; N is the number of images counted for the speed. */
  indices: Tensor;
}

/** An endless source of batches that remembers its position, such as `DataLoader`. */
export interface BatchSource<Batch extends IndexedBatch> extends Stateful {
  /** The next batch; its tensors belong to the caller's scope. */
  next(): Batch;
  readonly batchesPerEpoch: number;
}

/**
 * What a method says of a step. Every other property that is a number or a tensor of one element is a metric by that name; it is
 * read only in the steps that are logged.
 */
export interface StepOutput {
  /** What is minimised: one element, with its graph. */
  readonly loss: Tensor;
}

/** A way to learn: makes a loss of some views of a batch. */
export interface Method<Views extends unknown[]> {
  /**
   * Computes the loss; the trainer does the gradient and the optimiser's step. It may move on what the method itself keeps (`MoCo` lets the key
   * encoder follow and puts the keys in its queue here), but must not change what the optimiser trains.
   */
  step(...views: Views): StepOutput;
  /** Called after the optimiser's step, without gradients: for what has to follow the new weights. */
  afterStep?(): void;
}

/** What the trainer uses of an optimiser. */
export interface TrainingOptimizer extends Stateful {
  readonly groups: readonly { readonly parameters: readonly Parameter[]; lr: number }[];
  step(): void;
  zeroGrad(): void;
}

/** What the trainer uses of a learning-rate schedule, such as `WarmupCosine`. */
export interface TrainingSchedule extends Stateful {
  /** Goes on to the next step and sets its learning rates. */
  step(): void;
}

/** A training: its parts and its length. */
export interface Training<Batch extends IndexedBatch = IndexedBatch, Views extends unknown[] = unknown[]> {
  data: BatchSource<Batch>;
  /** Makes what the method's step takes, for example a pair of augmented views. Runs in full precision and without gradients. */
  views(batch: Batch): Views;
  method: Method<Views>;
  optimizer: TrainingOptimizer;
  /** Default: the learning rates stay as they are. */
  schedule?: TrainingSchedule;
  /**
   * What a checkpoint holds besides data, optimiser, schedule and the default random generators: the model, queues, averages, and the
   * generators that `views` draws from. Whatever changes in training and is missing here is lost by a resume.
   */
  state: Readonly<Record<string, Part>>;
  /** Length in passes over the data. Give this or `steps`. */
  epochs?: number;
  /** Length in optimiser steps. Give this or `epochs`. */
  steps?: number;
  /** What the gradients' common norm is clipped to. Default: not clipped. */
  clipGradientNorm?: number;
  /**
   * What the method computes in: with `'bfloat16'`, matrix products and convolutions run in bfloat16 by autocast, and sums, losses and
   * weights stay float32. Default `'float32'`.
   */
  precision?: 'float32' | 'bfloat16';
  /** Steps between checkpoints. Default: an epoch. The last step is always saved. */
  checkpointEvery?: number;
  /** How many checkpoints are kept besides the last, as `checkpoint-step-<n>.safetensors`. Default: 0. */
  checkpointsKept?: number;
  /** Steps between entries of the metrics file. Default: 10. */
  metricsEvery?: number;
}
