import { autocast, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { toFloat } from '../data/augment/to-float';
import type { ImageSet } from '../data/image-set';
import type { Module } from '../nn';

/** What {@link extractFeatures} takes. */
export interface ExtractFeaturesOptions {
  /** Maps a batch of images to features [B, D]. */
  module: Module;
  /** What features are wanted of: a set, or images [N, C, H, W]. */
  images: ImageSet | Tensor;
  /** Makes the module's input of a batch as it is in the set. Default: {@link toFloat}, values in [0, 1]. */
  transform?: (images: Tensor) => Tensor;
  /** Images a batch. Default: 1000. */
  batchSize?: number;
  /** Runs the module under autocast in this type. Default: no autocast. */
  autocast?: 'bfloat16' | 'float16';
  /** Called after each batch. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * A module's features of a set of images, float32 [N, D], on the module's device, kept until disposed of.
 *
 * The module runs in evaluation mode (running statistics, no dropout) without gradients; afterwards each of its parts is in the mode it was
 * in, also when something threw.
 *
 * @throws InvalidArgumentError for no images, a bad batch size, or a module that does not give one row an image
 */
export function extractFeatures(options: ExtractFeaturesOptions): Tensor {
  const { module, transform = toFloat, batchSize = 1000, onProgress } = options;
  const images = imagesOf(options.images);
  const count = images.shape[0];
  if (count === 0) throw new InvalidArgumentError('There are no images to extract features of.');
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
    throw new InvalidArgumentError(`The batch size must be a positive integer, not ${batchSize}.`);
  }
  const device = module.parameters()[0]?.device ?? images.device;
  const forward = options.autocast
    ? (input: Tensor) => autocast({ device: deviceKind(device), dtype: options.autocast }, () => module.forward(input))
    : (input: Tensor) => module.forward(input);
  const modes = module.modules().map((part) => ({ part, training: part.training }));
  module.eval();
  try {
    return noGrad(() =>
      scope(() => {
        const parts: Tensor[] = [];
        for (let start = 0; start < count; start += batchSize) {
          const rows = Math.min(batchSize, count - start);
          parts.push(
            scope(() => {
              const features = forward(transform(images.narrow(0, start, rows).to(device)));
              if (features.ndim !== 2 || features.shape[0] !== rows) {
                throw new InvalidArgumentError(
                  `Features must be [${rows}, D] for ${rows} images, but the module gave [${features.shape.join(', ')}].`,
                );
              }
              return features.to('float32');
            }),
          );
          onProgress?.(start + rows, count);
        }
        return keep(torch.cat(parts, 0));
      }),
    );
  } finally {
    for (const { part, training } of modes) part.training = training;
  }
}

/**
 * The pixels themselves as features: float32 [N, C·H·W], on the images' device, kept until disposed of.
 *
 * @param transform what is done to the images first. Default: {@link toFloat}, values in [0, 1]. Cosine similarities depend on it: they
 * tell more of pixels that are normalised to mean 0.
 */
export function rawPixels(images: ImageSet | Tensor, transform: (images: Tensor) => Tensor = toFloat): Tensor {
  return noGrad(() => scope(() => keep(transform(imagesOf(images)).flatten(1).to('float32'))));
}

function imagesOf(images: ImageSet | Tensor): Tensor {
  return 'classNames' in images ? images.images : images;
}

function deviceKind(device: Device): 'cpu' | 'cuda' {
  return device.startsWith('cuda') ? 'cuda' : 'cpu';
}
