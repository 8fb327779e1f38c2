import { torch, type Tensor } from '../../torch';
import { InvalidArgumentError } from '../../torch/errors';
import { Augmentation } from './augmentation';

/** What {@link Normalize} takes. */
export interface NormalizeOptions {
  /** What is subtracted: one number for all channels, or one a channel. */
  mean: number | readonly number[];
  /** What is divided by then, above 0: one number for all channels, or one a channel. */
  std: number | readonly number[];
}

/**
 * Standardises the channels: `y = (x − mean) / std`. Nothing about it is random; it is an augmentation so that it can end a
 * {@link Compose}.
 */
export class Normalize extends Augmentation {
  readonly mean: number | readonly number[];
  readonly std: number | readonly number[];

  /** @throws InvalidArgumentError when a mean is not finite or a standard deviation is not above 0 */
  constructor(options: NormalizeOptions) {
    super();
    const { mean, std } = options;
    if (![mean].flat().every(Number.isFinite)) {
      throw new InvalidArgumentError(`Normalize: mean must be finite, not ${[mean].flat().join(', ')}.`);
    }
    if (![std].flat().every((value) => value > 0 && value < Infinity)) {
      throw new InvalidArgumentError(`Normalize: std must be above 0, not ${[std].flat().join(', ')}.`);
    }
    this.mean = mean;
    this.std = std;
  }

  protected transform(images: Tensor): Tensor {
    const mean = perChannel('mean', this.mean, images);
    const std = perChannel('std', this.std, images);
    return images.sub(mean).div_(std);
  }
}

function perChannel(name: string, values: number | readonly number[], images: Tensor): number | Tensor {
  if (typeof values === 'number') return values;
  const channels = images.shape[1];
  if (values.length !== channels) {
    throw new InvalidArgumentError(
      `Normalize has ${values.length} values of ${name}, but the images have ${channels} channels.`,
    );
  }
  return torch.tensor([...values], { dtype: images.dtype, device: images.device }).view([1, channels, 1, 1]);
}
