import { InvalidArgumentError, noGrad, scope, torch, type Device } from '../../torch';
import { positiveInteger } from '../../nn/checks';
import type { TripletIndices } from './pairs-and-triplets';

/**
 * The triplets of embeddings that are packed as such: rows 3i, 3i + 1 and 3i + 2 are an anchor, its positive and its negative.
 *
 * For data sets of ready triplets that go through the encoder as one batch.
 *
 * @param rows how many embeddings there are, a multiple of 3
 * @param device of the indices. Default: `'cpu'`
 * @returns rows / 3 triplets
 * @throws InvalidArgumentError if rows is no multiple of 3
 */
export function packedTriplets(rows: number, device: Device = 'cpu'): TripletIndices {
  if (positiveInteger(rows, 'packedTriplets: rows') % 3 !== 0) {
    throw new InvalidArgumentError(`packedTriplets: rows must be a multiple of 3, found ${rows}`);
  }
  const every = (first: number) => torch.arange(first, rows, 3, { dtype: 'int64', device });
  return noGrad(() => scope(() => ({ anchors: every(0), positives: every(1), negatives: every(2) })));
}
