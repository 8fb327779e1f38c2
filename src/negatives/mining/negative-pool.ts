/** What the methods over an index share: rankings without positives, and drawing from them. */
import { InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../../torch';
import { checkTensor } from './miner';
import type { FoundDocuments, SearchIndex } from './search-index';

/** Documents that are a query's negatives, by their ids: what a loader fetches. */
export interface DocumentNegatives {
  /** int64 [N, K]; −1 where there are fewer. */
  ids: Tensor;
  /** Their scores by the index, [N, K]; −∞ where there are fewer. */
  scores: Tensor;
}

/** The positives of queries as [N, P]. @throws InvalidArgumentError naming `what` unless they are int64 [N] or [N, P] */
export function checkPositives(positives: Tensor, queries: Tensor, what: string): Tensor {
  const count = queries.sizeOf(0);
  const width = positives.ndim === 1 ? [] : [positives.ndim === 2 ? positives.sizeOf(1) : 1];
  checkTensor(positives, [count, ...width], 'int64', `${what}: positives`);
  if (positives.device !== queries.device) {
    throw new InvalidArgumentError(
      `${what}: queries are on ${queries.device}, positives on ${positives.device}; move one`,
    );
  }
  return positives.ndim === 1 ? positives.unsqueeze(1) : positives;
}

/**
 * The first `depth` documents of each query that are none of its positives, best first: [N, depth].
 *
 * @param positives int64 [N, P], −1 for none
 */
export function rankedNegatives(index: SearchIndex, queries: Tensor, positives: Tensor, depth: number): FoundDocuments {
  return noGrad(() =>
    scope(() => {
      const { ids, scores } = index.search(queries, depth + positives.sizeOf(1));
      const out = isAmong(ids, positives).logicalOr(ids.lt(0));
      // Stable: what is left keeps its order.
      const [, order] = out.to({ dtype: 'uint8' }).sort({ stable: true, dim: 1 });
      const first = order.narrow(1, 0, depth);
      const gone = out.gather(1, first);
      return {
        ids: ids.gather(1, first).maskedFill_(gone, -1),
        scores: scores.gather(1, first).maskedFill_(gone, -Infinity),
      };
    }),
  );
}

/** Which ids [N, C] are among those of their row [N, P]: bool [N, C]. */
export function isAmong(ids: Tensor, some: Tensor): Tensor {
  return ids.unsqueeze(2).eq(some.unsqueeze(1)).any(2);
}

/**
 * Draws places of each row without repetition, each in proportion to its weight among those that are left (the largest of logarithms with Gumbel noise
 * added). On the CPU, so that the draw is the same on every device.
 *
 * @param logWeights [N, C]; −∞ is never drawn
 * @returns int64 [N, count], −1 where no more are left, in the order in which they were drawn
 */
export function drawPlaces(logWeights: Tensor, count: number, generator: Generator): Tensor {
  return noGrad(() =>
    scope(() => {
      const numbers = torch.rand([...logWeights.shape], { dtype: 'float64', generator, device: generator.device });
      // 0 would be an infinite noise.
      const noise = numbers.clampMin_(1e-300).log_().neg_().log_().neg_();
      const keys = logWeights.to({ dtype: 'float64', device: generator.device }).add(noise);
      const taken = Math.min(count, keys.sizeOf(1));
      const [values, places] = keys.topk(taken, 1);
      const drawn = places.maskedFill(values.eq(-Infinity), -1);
      const missing = drawn.newFull([drawn.sizeOf(0), count - taken], -1);
      return torch.cat([drawn, missing], 1).to({ device: logWeights.device });
    }),
  );
}

/** The documents at places that {@link drawPlaces} gave. */
export function atPlaces({ ids, scores }: FoundDocuments, places: Tensor): DocumentNegatives {
  return noGrad(() =>
    scope(() => {
      const none = places.lt(0);
      const at = places.clampMin(0);
      return {
        ids: ids.gather(1, at).maskedFill_(none, -1),
        scores: scores.gather(1, at).maskedFill_(none, -Infinity),
      };
    }),
  );
}

/** Equal weights of all documents that are there: 0, and −∞ where there is none. */
export function evenly(ids: Tensor): Tensor {
  return scope(() =>
    torch.zeros([...ids.shape], { dtype: 'float64', device: ids.device }).maskedFill_(ids.lt(0), -Infinity),
  );
}
