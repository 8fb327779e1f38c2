import { dispose, keep, noGrad, torch, type Device, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import type { CachedImages, DroppedRow } from './image-cache';

/** What an {@link ImageSet} is made of. */
export interface ImageSetOptions {
  /** The data set's name, for messages and reports. Default: `'images'`. */
  name?: string;
  /** uint8 [N, C, H, W]. */
  images: Tensor;
  /** int64 [N], each from 0 to the number of class names − 1. */
  labels: Tensor;
  /** The classes' names, by label. */
  classNames: readonly string[];
  /** Rows of the source that were left out. Default: none. */
  dropped?: readonly DroppedRow[];
}

/**
 * Labelled images that fit in memory: `images` uint8 [N, C, H, W] and `labels` int64 [N] on one device.
 *
 * The set owns its tensors: they outlive the scope it was made in, until {@link dispose} or garbage collection.
 */
export class ImageSet {
  readonly name: string;
  readonly images: Tensor;
  readonly labels: Tensor;
  readonly classNames: readonly string[];
  /** Rows of the source that were left out, and why. */
  readonly dropped: readonly DroppedRow[];

  /** @throws InvalidArgumentError when the shapes, dtypes or devices do not fit together, or a label has no class name */
  constructor(options: ImageSetOptions) {
    const { name = 'images', images, labels, classNames, dropped = [] } = options;
    const count = images.shape[0];
    if (images.dtype !== 'uint8' || images.ndim !== 4) {
      throw new InvalidArgumentError(
        `Images must be uint8 [N, C, H, W], not ${images.dtype} [${images.shape.join(', ')}].`,
      );
    }
    if (labels.dtype !== 'int64' || labels.ndim !== 1 || labels.shape[0] !== count) {
      throw new InvalidArgumentError(
        `Labels of ${count} images must be int64 [${count}], not ${labels.dtype} [${labels.shape.join(', ')}].`,
      );
    }
    if (labels.device !== images.device) {
      throw new InvalidArgumentError(`The images are on ${images.device}, their labels on ${labels.device}.`);
    }
    if (count > 0) {
      const low = labels.min();
      const high = labels.max();
      const range = [low.itemSync(), high.itemSync()];
      dispose(low, high);
      if (range[0] < 0 || range[1] >= classNames.length) {
        throw new InvalidArgumentError(
          `Labels run from ${range[0]} to ${range[1]}, but there are ${classNames.length} class names.`,
        );
      }
    }
    this.name = name;
    this.images = keep(images);
    this.labels = keep(labels);
    this.classNames = classNames;
    this.dropped = dropped;
  }

  /** The set that a cache file holds; the images' memory is shared with `cached`, not copied. */
  static fromCache(cached: CachedImages, device: Device = 'cpu'): ImageSet {
    const { count, channels, height, width } = cached;
    const onCpu = torch.fromTypedArray(cached.images, [count, channels, height, width], { copy: false });
    const bytes = torch.fromTypedArray(cached.labels, [count], { copy: false });
    const set = new ImageSet({
      name: `${cached.name} (${cached.split})`,
      images: onCpu.to(device),
      labels: bytes.to({ device, dtype: 'int64' }),
      classNames: cached.classNames,
      dropped: cached.dropped,
    });
    dispose(onCpu, bytes);
    return set;
  }

  /** The number of images. */
  get size(): number {
    return this.images.shape[0];
  }

  /** Where the images are. */
  get device(): Device {
    return this.images.device;
  }

  /**
   * A set of some of the images, copied, in the order given.
   *
   * @param rows a number n (the first n images), positions, or an int64 tensor of positions
   * @throws InvalidArgumentError when a position is not an integer from 0 to size − 1
   */
  subset(rows: number | readonly number[] | Tensor): ImageSet {
    const positions = typeof rows === 'number' ? this.firstPositions(rows) : rows;
    const index = isPositions(positions) ? this.indexOf(positions) : positions;
    const set = noGrad(
      () =>
        new ImageSet({
          name: this.name,
          images: this.images.indexSelect(0, index),
          labels: this.labels.indexSelect(0, index),
          classNames: this.classNames,
          dropped: this.dropped,
        }),
    );
    if (index !== rows) dispose(index);
    return set;
  }

  /** The same set on another device (a copy; the set itself when it is there already). */
  to(device: Device): ImageSet {
    if (device === this.device) return this;
    const { name, classNames, dropped } = this;
    return new ImageSet({ name, images: this.images.to(device), labels: this.labels.to(device), classNames, dropped });
  }

  /** Frees both tensors. */
  dispose(): void {
    dispose(this.images, this.labels);
  }

  private firstPositions(count: number): number[] {
    if (!Number.isInteger(count) || count < 0 || count > this.size) {
      throw new InvalidArgumentError(`"${this.name}" has ${this.size} images; the first ${count} cannot be taken.`);
    }
    return Array.from({ length: count }, (_, i) => i);
  }

  private indexOf(positions: readonly number[]): Tensor {
    const wrong = positions.find((p) => !Number.isInteger(p) || p < 0 || p >= this.size);
    if (wrong !== undefined) {
      throw new InvalidArgumentError(`"${this.name}" has ${this.size} images; there is no image ${wrong}.`);
    }
    return torch.tensor(BigInt64Array.from(positions, BigInt), { device: this.device });
  }
}

function isPositions(rows: readonly number[] | Tensor): rows is readonly number[] {
  return Array.isArray(rows);
}
