/** What momentum contrast minimises: the seam where other losses and other negatives come in. */
import type { InfoNCE } from '../contrast';
import { noGrad, scope, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import type { Stateful } from '../torch/state';

/** The loss of a step, and numbers of interest beside it, which become metrics by their names. None has dimensions. */
export interface MoCoLoss {
  /** With gradients. */
  loss: Tensor;
  /** Without gradients. */
  [metric: string]: Tensor | undefined;
}

/** What a training step of `MoCo` gives. None has dimensions; all but the loss are outside the graph. */
export interface MoCoStep extends MoCoLoss {
  /** The mean cosine between queries and their positive keys. */
  positiveSimilarity: Tensor;
  /** The mean cosine between queries and the keys of the queue. */
  negativeSimilarity: Tensor;
  /** The share of queries whose positive key is nearer than every negative. */
  accuracy: Tensor;
}

/**
 * What `MoCo` minimises in place of InfoNCE. Whatever takes queries, their keys and the queue will do:
 *
 * ```ts
 * new MoCo({ …, objective: { contrast: (queries, keys, queue) => ({ loss: dualViewMoCo(queries, keys, queue) }) } });
 * ```
 *
 * One that changes while training (random draws, counters) has the two methods of `Stateful` as well; its state is then part of `MoCo`'s.
 */
export interface MoCoObjective extends Partial<Stateful> {
  /**
   * The loss of one direction; called twice a step with `symmetric`. Runs outside autocast. Of `positiveSimilarity`, `negativeSimilarity`
   * and `accuracy`, `MoCo` works out what is not given; any other number must be given in every step.
   *
   * @param queries [N, D] of length one, float32 or float64, with gradients
   * @param keys [N, D] likewise, without gradients: row i is the key of query i. They enter the queue as they are.
   * @param queue [K, D]: the keys of earlier batches, a copy of the queries' dtype, without gradients
   */
  contrast(queries: Tensor, keys: Tensor, queue: Tensor): MoCoLoss;
}

/** What `MoCo` minimises by default. */
export function infoNceOverQueue(infoNce: InfoNCE): MoCoObjective {
  const { temperature, inBatchNegatives } = infoNce;
  return {
    contrast(queries, keys, queue) {
      const parts = infoNce.parts(queries, keys, queue);
      return noGrad(() => {
        const positives = parts.positives.detach();
        const others = parts.negatives.detach();
        // Among the keys of the batch a query's own is −∞.
        const queued = inBatchNegatives ? others.narrow(1, keys.sizeOf(0), queue.sizeOf(0)) : others;
        return {
          loss: parts.loss,
          positiveSimilarity: positives.mean().mul(temperature),
          negativeSimilarity: queued.mean().mul(temperature),
          accuracy: shareAbove(positives, others.amax([1])),
        };
      });
    },
  };
}

/** Asks the objective, and works out the similarities that it does not give. */
export function contrastBy(objective: MoCoObjective, queries: Tensor, keys: Tensor, entries: Tensor): MoCoStep {
  return withoutAutocast(queries, () =>
    scope(() => {
      const queue = entries.to({ dtype: queries.dtype });
      const given = objective.contrast(queries, keys, queue);
      const { loss, positiveSimilarity, negativeSimilarity, accuracy, ...more } = given;
      return noGrad(() => {
        const positives = (): Tensor => queries.mul(keys).sum([1]);
        return {
          loss,
          positiveSimilarity: positiveSimilarity ?? positives().mean(),
          // The mean of dot products is a dot product of means.
          negativeSimilarity: negativeSimilarity ?? queries.mean([0]).dot(queue.mean([0])),
          accuracy: accuracy ?? shareAbove(positives(), queries.matmul(queue.t()).amax([1])),
          ...more,
        };
      });
    }),
  );
}

/** The share of rows whose first number is above the second: no dimensions, float32. */
export function shareAbove(numbers: Tensor, bounds: Tensor): Tensor {
  return numbers.gt(bounds).to('float32').mean();
}
