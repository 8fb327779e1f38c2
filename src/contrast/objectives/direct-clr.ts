import { InvalidArgumentError, type Tensor } from '../../torch';
import { clip } from './clip';
import type { CommonOptions } from './common-options';
import { ntXent } from './nt-xent';
import { checkPaired, checkTemperature } from './parts';

/** What {@link directClr} takes beside the representations. */
export interface DirectClrOptions extends CommonOptions {
  /** d₀, how many first components the loss sees: from 1 to D. The paper has 360 of 2048. */
  dimensions: number;
  /** τ: a number, or a tensor of one element. Default 0.1, as in the authors' code. */
  temperature?: number | Tensor;
  /**
   * What an anchor is compared with: `'otherView'`, the other view of all samples, as in the authors' code (default), or `'allViews'`, both
   * views as in NT-Xent.
   */
  candidates?: 'otherView' | 'allViews';
}

/**
 * DirectCLR (Jing, Vincent, LeCun and Tian 2022, "Understanding Dimensional Collapse in Contrastive Self-supervised Learning"): InfoNCE on the
 * first components of the representation itself, without a projector. The other components learn through the layers that they share.
 *
 *     lossᵢ = −½ [ log( exp(sᵢᵢ) / Σⱼ exp(sᵢⱼ) ) + log( exp(sᵢᵢ) / Σⱼ exp(sⱼᵢ) ) ],   sᵢⱼ = cos(rᵢ[1…d₀], r⁺ⱼ[1…d₀]) / τ
 *
 * or, with `candidates: 'allViews'`, {@link ntXent} of the same components. One sample alone has the loss 0.
 *
 * For self-supervised training of residual networks without a projector.
 *
 * @param first [N, D], of any floating-point dtype: what the backbone gives
 * @param second [N, D]: row i is the other view of row i
 * @returns the loss without dimensions; with reduction `'none'` [N], or [2N] view by view with `'allViews'`
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function directClr(first: Tensor, second: Tensor, options: DirectClrOptions): Tensor {
  const { dimensions, temperature = 0.1, candidates = 'otherView', ...common } = options;
  checkPaired(first, second, 'directClr');
  checkTemperature(temperature, 'directClr');
  const most = first.sizeOf(1);
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > most) {
    throw new InvalidArgumentError(
      `directClr: dimensions must be a whole number from 1 to ${most}, found ${String(dimensions)}`,
    );
  }
  if (candidates !== 'otherView' && candidates !== 'allViews') {
    throw new InvalidArgumentError(
      `directClr: candidates must be 'otherView' or 'allViews', found '${String(candidates)}'`,
    );
  }
  const views = [first, second].map((x) => x.narrow(1, 0, dimensions)) as [Tensor, Tensor];
  return candidates === 'allViews'
    ? ntXent(views, { ...common, temperature })
    : clip(...views, { ...common, temperature });
}
