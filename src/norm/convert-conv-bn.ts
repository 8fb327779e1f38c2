import type { Tensor } from '../torch';
import { Conv2d, Identity, type AnyModule } from '../nn';
import { ConvBN2d, type ConvBNMode } from './conv-bn2d';
import { findNormPairs, refuseUnpaired } from './conv-norm-pairs';
import { replaceModules } from './replace-modules';

/** Sets the mode of all {@link ConvBN2d} blocks of a model; see {@link ConvBN2d.setMode}. @returns how many there are */
export function setConvBNMode(model: AnyModule, mode: ConvBNMode): number {
  const blocks = model.modules().filter((module) => module instanceof ConvBN2d);
  for (const block of blocks) block.setMode(mode);
  return blocks.length;
}

/** How {@link convertConvBN} finds its pairs. */
export interface ConvertConvBNOptions {
  /** An input to run the model on, which shows which norm follows which convolution. Default: the structure and names tell. */
  check?: Tensor;
  /** What to do with batch normalisation that follows no convolution: `'keep'` (default), or `'error'`. */
  unpaired?: 'error' | 'keep';
  /** What the blocks do in training mode. Default `'tune'`. */
  mode?: Exclude<ConvBNMode, 'deploy'>;
}

/**
 * Makes each convolution of a model and the batch normalisation that follows it one {@link ConvBN2d} with the same parameters and
 * statistics, so that an optimiser stays attached. The block stands where the convolution did, an `Identity` where the norm did, and the
 * names in state dicts change accordingly (`conv1.weight` to `conv1.conv.weight`): load checkpoints first. Pairs are found as by
 * {@link foldBatchNorm}.
 *
 * @returns the model itself
 * @throws InvalidArgumentError, before anything changes, for norms that follow no convolution, unless they are to be kept
 */
export function convertConvBN<M extends AnyModule>(model: M, options: ConvertConvBNOptions = {}): M {
  const { check = null, unpaired: left = 'keep', mode = 'tune' } = options;
  const { pairs, unpaired } = findNormPairs(model, check);
  if (left === 'error') refuseUnpaired('convertConvBN', unpaired);
  const replacements = new Map<AnyModule, AnyModule>();
  for (const { layer, norm } of pairs) {
    if (!(layer instanceof Conv2d)) continue;
    replacements.set(layer, new ConvBN2d({ conv: layer, bn: norm, mode }));
    replacements.set(norm, new Identity());
  }
  return replaceModules(model, replacements);
}
