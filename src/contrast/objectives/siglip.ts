import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { contrast } from '../contrast';
import { sigmoidLink } from '../link';
import type { SimilarityOptions } from './common-options';
import { checkPaired, checkTemperature, positionsOf } from './parts';

/** What {@link siglip} takes beside the embeddings. */
export interface SiglipOptions extends SimilarityOptions {
  /** τ: a number, or a tensor of one element that may learn. Default 0.1, from which SigLIP's learnable scale of 10 starts. */
  temperature?: number | Tensor;
  /**
   * b: a number, or a tensor of one element that may learn. Default −10, from which SigLIP's learnable bias starts: most pairs are
   * negatives, and so they are right from the first step.
   */
  bias?: number | Tensor;
  /** Which side gets no gradient, as in {@link clip}. Default: both learn. */
  frozen?: 'first' | 'second';
}

/**
 * The objective of SigLIP (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"): every pair of the batch is a case of its own.
 *
 *     loss = −1/N Σᵢⱼ log σ( zᵢⱼ · (similarityᵢⱼ / τ + b) ),   z = 1 where i = j, else −1
 *
 * The sum over all N² pairs is divided by N, as in the paper and the authors' code, not by N². {@link LogitScale} with `temperature: 0.1`
 * and `bias: -10` holds what learns.
 *
 * For two encoders of what belongs together in pairs, where small batches, noise or many devices make a softmax over the batch unwelcome.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]: row i belongs to row i of `first`
 * @returns the loss without dimensions; with reduction `'none'` [N], the sum over the pairs of each row of `first`
 * @throws InvalidArgumentError if shapes, dtypes, devices, the temperature or the bias do not fit
 */
export function siglip(first: Tensor, second: Tensor, options: SiglipOptions = {}): Tensor {
  const { temperature = 0.1, bias = -10, frozen, ...common } = options;
  checkPaired(first, second, 'siglip');
  checkTemperature(temperature, 'siglip');
  if (typeof bias === 'number' ? !Number.isFinite(bias) : bias.numel() !== 1) {
    throw new InvalidArgumentError('siglip: bias must be a finite number or a tensor of one element');
  }
  const labels = positionsOf(first.sizeOf(0), first);
  return contrast({
    ...common,
    anchors: frozen === 'first' ? first.detach() : first,
    candidates: { embeddings: frozen === 'second' ? second.detach() : second, labels },
    labels,
    temperature,
    bias: typeof bias === 'number' ? torch.full([], bias, { dtype: 'float64', device: first.device }) : bias,
    link: sigmoidLink,
  });
}
