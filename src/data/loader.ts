import { dispose, Generator as RandomGenerator, keep, noGrad, torch, type Device, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { jsonNumber, jsonObject, joinStates, partOfState, type Stateful, type StateDict } from '../torch/state';
import type { ImageSet } from './image-set';
import { deriveSeed } from './seed';

/** One batch that a {@link Sampler} chose. */
export interface SampledBatch {
  /** Positions in the data set. */
  indices: Int32Array;
  /** The epoch that the batch belongs to, from 0. */
  epoch: number;
  /** The batch's number in the order of its epoch; the same on every rank. */
  step: number;
}

/**
 * Chooses the rows of each batch, epoch after epoch. What it hands out follows from its options, its seed and its state alone. A batch
 * counts as used once it is handed out, and a sampler that takes up the state of another goes on with the very batches that the other
 * would have handed out next, also in the middle of an epoch.
 */
export interface Sampler<B extends SampledBatch = SampledBatch> extends Stateful {
  /** The number of rows of the data set that it samples from. */
  readonly size: number;
  /** The number of batches of the current epoch. */
  readonly batchesPerEpoch: number;
  /** The epoch of the next batch, from 0. */
  readonly currentEpoch: number;
  /** How many batches of the current epoch have been handed out; less than {@link batchesPerEpoch}. */
  readonly position: number;
  /** The next batch; after the last one of an epoch, the first of the next. */
  next(): B;
  /** Goes to the first batch of an epoch. */
  startEpoch(number: number): void;
  /** @throws InvalidArgumentError what `loadStateDict` would throw; changes nothing */
  checkStateDict(state: StateDict): void;
}

/** What {@link DataLoader} takes. */
export interface DataLoaderOptions {
  set: ImageSet;
  /**
   * Chooses the batches, in place of `batchSize`, `shuffle`, `dropLast` and `seed`, which then may not be given. The loader is the only one
   * to ask it for batches, and its state is part of the loader's.
   */
  sampler?: Sampler;
  /** Images a batch; the last batch of an epoch may have fewer. Default: 256. */
  batchSize?: number;
  /** Whether each epoch has an order of its own; otherwise it is the set's. Default: true. */
  shuffle?: boolean;
  /** Whether a last batch of fewer images is left out. Default: false. */
  dropLast?: boolean;
  /** Decides the orders, with the epoch's number. Default: 0. */
  seed?: number;
  /** Where the batches go. Default: the set's device. */
  device?: Device;
}

/** Some images of a set. */
export interface Batch {
  /** uint8 [N, C, H, W]. */
  images: Tensor;
  /** int64 [N]. */
  labels: Tensor;
  /** The images' positions in the set, int64 [N]. */
  indices: Tensor;
  /** The epoch that the batch belongs to, from 0. */
  epoch: number;
}

/**
 * Hands out the images of a set in batches, epoch after epoch, in an order that follows from the seed and the epoch's number alone, or
 * from a {@link Sampler}.
 *
 * A batch counts as used once it is handed out. So the state is three numbers (or the sampler's state), and a loader that takes up the
 * state of another hands out the very batches that the other would have gone on with, also in the middle of an epoch.
 */
export class DataLoader implements Stateful {
  readonly set: ImageSet;
  /** What chooses the batches, if it is not the loader itself. */
  readonly sampler: Sampler | undefined;
  /** Images a batch, as far as the loader itself decides it. */
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly dropLast: boolean;
  readonly seed: number;
  readonly device: Device;
  private currentEpochNumber = 0;
  private used = 0;
  private order: { epoch: number; indices: Tensor } | undefined;

  /**
   * @throws InvalidArgumentError for a batch size that is no positive integer, when an epoch would have no batch, or for a sampler of a
   * data set of another size or beside options that it replaces
   */
  constructor(options: DataLoaderOptions) {
    const { set, sampler, batchSize = 256, shuffle = true, dropLast = false, seed = 0, device = set.device } = options;
    if (sampler) {
      for (const name of ['batchSize', 'shuffle', 'dropLast', 'seed'] as const) {
        if (options[name] !== undefined) {
          throw new InvalidArgumentError(`A data loader with a sampler takes no ${name}: give it to the sampler.`);
        }
      }
      if (sampler.size !== set.size) {
        throw new InvalidArgumentError(`"${set.name}" has ${set.size} images, the sampler has ${sampler.size} rows.`);
      }
    }
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw new InvalidArgumentError(`The batch size must be a positive integer, not ${batchSize}.`);
    }
    deriveSeed(seed);
    if (set.size < (dropLast ? batchSize : 1)) {
      throw new InvalidArgumentError(
        `"${set.name}" has ${set.size} images: not one ${dropLast ? `full batch of ${batchSize}` : 'batch'} in an epoch.`,
      );
    }
    this.set = set;
    this.sampler = sampler;
    this.batchSize = batchSize;
    this.shuffle = shuffle;
    this.dropLast = dropLast;
    this.seed = seed;
    this.device = device;
  }

  /** The number of batches of an epoch; with a sampler, of the current one. */
  get batchesPerEpoch(): number {
    if (this.sampler) return this.sampler.batchesPerEpoch;
    const batches = this.set.size / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /**
   * The number of images of an epoch.
   *
   * @throws InvalidArgumentError with a sampler, whose batches may differ in size: count {@link batchesPerEpoch} instead
   */
  get imagesPerEpoch(): number {
    if (this.sampler) {
      throw new InvalidArgumentError('A data loader with a sampler counts batches: use batchesPerEpoch.');
    }
    return this.dropLast ? this.batchesPerEpoch * this.batchSize : this.set.size;
  }

  /** The epoch of the next batch, from 0. */
  get currentEpoch(): number {
    if (this.sampler) return this.sampler.currentEpoch;
    return this.currentEpochNumber;
  }

  /** How many images of the current epoch have been handed out; with a sampler, how many batches. Less than those of an epoch. */
  get position(): number {
    return this.sampler ? this.sampler.position : this.used;
  }

  /**
   * The next batch; after the last one of an epoch, the first of the next.
   *
   * The tensors belong to the caller (or to the scope that the call is made in).
   */
  next(): Batch {
    if (this.sampler) return this.sampled(this.sampler);
    const epoch = this.currentEpochNumber;
    const count = Math.min(this.batchSize, this.imagesPerEpoch - this.used);
    const order = this.orderOf(epoch);
    const batch = noGrad((): Batch => {
      const indices = order.narrow(0, this.used, count);
      const images = this.onDevice(this.set.images.indexSelect(0, indices));
      const labels = this.onDevice(this.set.labels.indexSelect(0, indices));
      return { images, labels, indices: this.onDevice(indices), epoch };
    });
    this.used += count;
    if (this.used === this.imagesPerEpoch) {
      this.used = 0;
      this.currentEpochNumber++;
    }
    return batch;
  }

  /**
   * The batches of one epoch: those still to come when it is the current one, else all of them.
   *
   * A batch's tensors are freed when the next batch is asked for; clone what is to live longer.
   */
  *epoch(number = this.currentEpoch): Generator<Batch, void, undefined> {
    if (!Number.isSafeInteger(number) || number < 0) {
      throw new InvalidArgumentError(`An epoch must be an integer from 0, not ${number}.`);
    }
    if (number !== this.currentEpoch) {
      if (this.sampler) {
        this.sampler.startEpoch(number);
      } else {
        this.currentEpochNumber = number;
        this.used = 0;
      }
    }
    while (this.currentEpoch === number) {
      const batch = this.next();
      try {
        yield batch;
      } finally {
        dispose(batch.images, batch.labels, batch.indices);
      }
    }
  }

  /** The position, and the options that the order follows from. */
  stateDict(): StateDict {
    if (this.sampler) return joinStates({ sampler: this.sampler.stateDict() });
    return { tensors: new Map(), values: { epoch: this.currentEpochNumber, position: this.used, ...this.identity() } };
  }

  /**
   * Goes on where the loader that gave the state stood.
   *
   * @throws InvalidArgumentError when that loader had another set size or other options, as the batches would differ
   */
  loadStateDict(state: StateDict): void {
    if (this.sampler) {
      this.sampler.loadStateDict(partOfState(state, 'sampler'));
      return;
    }
    const what = 'the state of the data loader';
    const values = jsonObject(state.values, what);
    const epoch = jsonNumber(values, 'epoch', what);
    const position = jsonNumber(values, 'position', what);
    for (const [name, value] of Object.entries(this.identity())) {
      if (values[name] !== value) {
        throw new InvalidArgumentError(
          `The saved data loader has ${name} ${JSON.stringify(values[name])}, this one ${JSON.stringify(value)}: its batches would ` +
            'differ. Use the same options and data, or start a new run.',
        );
      }
    }
    if (!isCount(epoch) || !isCount(position) || position >= this.imagesPerEpoch || position % this.batchSize !== 0) {
      throw new InvalidArgumentError(
        `The saved data loader has position ${position} in epoch ${epoch}, where no batch of ${this.batchSize} starts.`,
      );
    }
    this.currentEpochNumber = epoch;
    this.used = position;
  }

  /** Frees the order of the current epoch; the set stays. */
  dispose(): void {
    if (this.order) dispose(this.order.indices);
    this.order = undefined;
  }

  /** All that the batches follow from, besides the position. */
  private identity() {
    const { seed, shuffle, batchSize, dropLast } = this;
    return { seed, shuffle, batchSize, dropLast, size: this.set.size };
  }

  private sampled(sampler: Sampler): Batch {
    const { indices: positions, epoch } = sampler.next();
    return noGrad((): Batch => {
      const indices = torch.fromTypedArray(positions, undefined, { dtype: 'int64' });
      const rows = indices.device === this.set.device ? indices : indices.to(this.set.device);
      const images = this.onDevice(this.set.images.indexSelect(0, rows));
      const labels = this.onDevice(this.set.labels.indexSelect(0, rows));
      const placed = indices.device === this.device ? indices : indices.to(this.device);
      if (rows !== indices) dispose(rows);
      if (placed !== indices) dispose(indices);
      return { images, labels, indices: placed, epoch };
    });
  }

  private orderOf(epoch: number): Tensor {
    if (this.order?.epoch === epoch) return this.order.indices;
    this.dispose();
    const size = this.set.size;
    const indices = this.shuffle
      ? torch.randperm(size, { generator: new RandomGenerator({ seed: deriveSeed(this.seed, epoch) }), dtype: 'int64' })
      : torch.arange(size, { dtype: 'int64' });
    const placed = keep(indices.to(this.set.device));
    dispose(indices);
    this.order = { epoch, indices: placed };
    return placed;
  }

  private onDevice(tensor: Tensor): Tensor {
    if (tensor.device === this.device) return tensor;
    const moved = tensor.to(this.device);
    dispose(tensor);
    return moved;
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
