import { InvalidArgumentError, scope, torch, type Generator, type Tensor } from '../torch';
import { integerFrom, positiveInteger } from '../nn/checks';

/** How the ranks of a distributed training show each other rows. Every rank must call it as often, and in the same order. */
export interface RowExchange {
  /** This rank's number, from 0. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly ranks: number;
  /** The rows of all ranks, [ranks · n, …], those of rank 0 first, given this rank's own [n, …], without gradients. */
  allGather(rows: Tensor): Tensor;
}

/** How {@link shuffledBatch} shuffles. */
export interface ShuffledBatchOptions {
  /**
   * Where the order comes from, on the CPU. Default: the CPU's default generator. With an `exchange` all ranks must draw the same
   * order: give each a generator of its own with the same seed, which nothing else draws from.
   */
  generator?: Generator;
  /** Shuffles the batch that all ranks have together. Default: this process has the whole batch. */
  exchange?: RowExchange;
}

/**
 * Runs an encoder on the batch in a random order and puts its output back in the given order (ShuffleBN, He et al. 2020, Momentum
 * Contrast for Unsupervised Visual Representation Learning, section 3.3).
 *
 * With normalisation whose statistics are taken over groups of the batch ({@link SplitBatchNorm}, or several devices), a query
 * and its positive key are then normalised in the company of different samples, so the encoder cannot tell the positive key by
 * the statistics that the two share. With statistics over the whole batch the order does not matter and shuffling does
 * nothing.
 *
 * With an `exchange` the samples of all ranks are put in one order, and each rank encodes its share of it, normalised by the
 * statistics of that share: as in the paper, plain batch norm then does. No gradient passes from rank to rank; keys need none.
 *
 * @param x [N, …]; with an `exchange` as many samples on every rank
 * @param encode gives one row a sample, in the order of its input
 * @returns the rows in the order of `x`
 * @throws InvalidArgumentError if ranks have different numbers of samples, or `encode` gives rows that require gradients to an `exchange`
 */
export function shuffledBatch(
  x: Tensor,
  encode: (shuffled: Tensor) => Tensor,
  options: ShuffledBatchOptions = {},
): Tensor {
  const { generator = null, exchange } = options;
  const { device } = x;
  // Drawn on the CPU so that the order is the same on every device.
  const draw = (rows: number): Tensor => torch.randperm(rows, { generator }).to({ device });
  if (exchange === undefined) {
    const order = draw(x.shape[0] ?? 0);
    return encode(x.indexSelect(0, order)).indexSelect(0, order.argsort());
  }
  const ranks = positiveInteger(exchange.ranks, 'shuffledBatch: ranks');
  const rank = integerFrom(0, exchange.rank, 'shuffledBatch: rank');
  return scope(() => {
    const own = x.sizeOf(0);
    const all = exchange.allGather(x);
    if (rank >= ranks || all.sizeOf(0) !== ranks * own) {
      throw new InvalidArgumentError(
        `shuffledBatch: rank ${rank} of ${ranks} has ${own} samples, but all together have ${all.sizeOf(0)}; every rank needs as many`,
      );
    }
    const order = draw(ranks * own);
    const encoded = encode(all.indexSelect(0, order.narrow(0, rank * own, own)));
    if (encoded.requiresGrad) {
      throw new InvalidArgumentError('shuffledBatch: no gradient passes from rank to rank; encode without gradients');
    }
    return exchange.allGather(encoded).indexSelect(0, order.argsort().narrow(0, rank * own, own));
  });
}
