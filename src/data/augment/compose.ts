import type { Generator, Tensor } from '../../torch';
import { Augmentation } from './augmentation';

/** What {@link Compose} takes. */
export interface ComposeOptions {
  /** What is done, in this order; none at all gives a copy. */
  augmentations: readonly Augmentation[];
}

/** One augmentation after another, all drawing from the same generator. */
export class Compose extends Augmentation {
  readonly augmentations: readonly Augmentation[];

  constructor(options: ComposeOptions) {
    super();
    this.augmentations = [...options.augmentations];
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    if (this.augmentations.length === 0) return images.clone();
    return this.augmentations.reduce((batch, augmentation) => {
      const next = augmentation.apply(batch, generator);
      // A batch is megabytes: freed now, not when the whole chain is done.
      if (batch !== images) batch.dispose();
      return next;
    }, images);
  }
}
