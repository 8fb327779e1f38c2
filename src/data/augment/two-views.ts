import { torch, type Generator, type Tensor } from '../../torch';
import { Augmentation } from './augmentation';

/** What {@link TwoViews} takes. */
export interface TwoViewsOptions {
  /** Makes one view of each image. */
  augmentation: Augmentation;
}

/**
 * Two independent views of each image: [2N, C, H, W], where rows i and N + i are views of image i.
 *
 * The views are made in one go, as twice the images; each row draws parameters of its own.
 */
export class TwoViews extends Augmentation {
  readonly augmentation: Augmentation;

  constructor(options: TwoViewsOptions) {
    super();
    this.augmentation = options.augmentation;
  }

  protected transform(images: Tensor, generator: Generator): Tensor {
    return this.augmentation.apply(torch.cat([images, images], 0), generator);
  }

  /** The same as a pair [N, C, H, W], [N, C, H, W] of views on one tensor. */
  pair(images: Tensor, generator: Generator): [Tensor, Tensor] {
    const count = images.shape[0];
    const views = this.apply(images, generator);
    const halves: [Tensor, Tensor] = [views.narrow(0, 0, count), views.narrow(0, count, count)];
    views.dispose();
    return halves;
  }
}
