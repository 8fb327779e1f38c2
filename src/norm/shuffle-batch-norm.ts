import { torch, type Generator, type Tensor } from '../torch';

/**
 * Runs an encoder on the batch in a random order and puts its output back in the given order (ShuffleBN, He et al. 2020).
 *
 * With normalisation whose statistics are taken over groups of the batch ({@link SplitBatchNorm}, or several devices), a query
 * and its positive key are then normalised in the company of different samples, so the encoder cannot tell the positive key by
 * the statistics that the two share. With statistics over the whole batch the order does not matter and shuffling does
 * nothing.
 *
 * @param x [N, …]
 * @param encode gives one row a sample, in the order of its input
 * @param options `generator`: where the order comes from (on the CPU); default: the CPU's default generator
 * @returns the rows in the order of `x`
 */
export function shuffledBatch(
  x: Tensor,
  encode: (shuffled: Tensor) => Tensor,
  options: { generator?: Generator } = {},
): Tensor {
  // Drawn on the CPU so that the order is the same on every device.
  const order = torch.randperm(x.shape[0] ?? 0, { generator: options.generator ?? null }).to({ device: x.device });
  return encode(x.indexSelect(0, order)).indexSelect(0, order.argsort());
}
