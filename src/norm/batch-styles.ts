import { InvalidArgumentError, scope, torch, type Generator, type Tensor } from '../torch';
import { numberWithin } from '../nn/checks';

/** How {@link standardizeBatchStyles} draws. */
export interface BatchStylesOptions {
  /**
   * The share of the frequency plane whose amplitudes are replaced, around frequency zero: one number, or the ends of a range from which it
   * is drawn for each call. Default [0.02, 1].
   */
  areaRatio?: number | readonly [least: number, most: number];
  /** Where the share and the image that gives the style come from (on the CPU); default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * Batch Styles Standardization (BSS): gives all images of a batch the style of one of them. With F the Fourier transform of each channel of
 * each image, A its amplitude and P its phase, and s one image of the batch drawn at random,
 *
 *     x̂ᵢ = F⁻¹( Âᵢ · exp(i Pᵢ) ),   Âᵢ = Aₛ at low frequencies, Aᵢ elsewhere
 *
 * where the low frequencies are a rectangle around zero that covers the share `areaRatio` of the plane, of √areaRatio of each side.
 * Amplitudes there hold brightness, colours and contrast, phases where things are.
 *
 * Call it once for each view of a batch: every call draws a style and a share of its own, so that views of one image differ in style and
 * images of one view do not; then style tells neither positives nor negatives. The result is not clamped to the range of the images.
 * Gradients flow through. The image drawn keeps its own pixels.
 *
 * The rectangle here has as many negative as positive frequencies, so that the images stay real. The default range is ours: the paper
 * tunes its r_min and r_max, and those values could not be checked.
 *
 * In self-supervised learning that shall carry over to domains not seen in training, without labels of domains.
 *
 * @param images [N, C, H, W], float32 or float64
 * @returns the images in the new style, of the same shape and dtype
 * @throws InvalidArgumentError for another shape or dtype, an empty batch, or shares outside (0, 1]
 *
 * Scalbert, Vakalopoulou and Couzinié-Devy 2024, Towards domain-invariant Self-Supervised Learning with Batch Styles Standardization.
 */
export function standardizeBatchStyles(images: Tensor, options: BatchStylesOptions = {}): Tensor {
  const { areaRatio = [0.02, 1], generator = null } = options;
  const [least, most] = typeof areaRatio === 'number' ? [areaRatio, areaRatio] : areaRatio;
  const what = 'standardizeBatchStyles: areaRatio';
  numberWithin(Number.MIN_VALUE, 1, least, what);
  numberWithin(least, 1, most, what);
  if (images.ndim !== 4 || images.numel() === 0 || !['float32', 'float64'].includes(images.dtype)) {
    throw new InvalidArgumentError(
      `standardizeBatchStyles: expected images [N, C, H, W] of float32 or float64, none of them 0, found ${images.dtype} ` +
        `[${images.shape.join(', ')}]`,
    );
  }
  const [samples, , height, width] = images.shape as [number, number, number, number];
  return scope(() => {
    // Always drawn, so that a run does not depend on whether the range is a point.
    const share = least + (most - least) * torch.rand([], { dtype: 'float64', generator }).itemSync();
    const style = torch.randint(samples, [1], { generator }).itemSync();
    const [rows, columns] = [half(height, share), half(width, share)];
    const spectrum = torch.fftRfft2(images);
    // The backward pass needs the old spectrum, which is written over.
    const old = spectrum.requiresGrad ? spectrum.clone() : spectrum;
    // The transform of real images holds the columns of frequencies from 0 upwards, and negative rows after the positive ones.
    const bandsOf = (whole: Tensor): Tensor[] => {
      const low = whole.narrow(3, 0, columns + 1);
      if (2 * rows + 1 >= height) return [low];
      return [low.narrow(2, 0, rows + 1), ...(rows === 0 ? [] : [low.narrow(2, height - rows, rows)])];
    };
    const bands = bandsOf(spectrum);
    bandsOf(old).forEach((band, index) => {
      const amplitude = band.narrow(0, style, 1).abs();
      bands[index]!.copy_(torch.polar(amplitude.expand(band.shape), band.angle()));
    });
    return torch.fftIrfft2(spectrum, [height, width]);
  });
}

/** Up to which frequency, so that the frequencies from −k to k are about √share of all `side`. */
function half(side: number, share: number): number {
  return Math.min(Math.floor(side / 2), Math.max(0, Math.round((Math.sqrt(share) * side - 1) / 2)));
}
