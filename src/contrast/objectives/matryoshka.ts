/** Matryoshka: an objective at several dimensions of the same embeddings. */
import { functional } from '../../nn';
import { InvalidArgumentError, type Tensor } from '../../torch';
import { checkNumber } from './parts';

/** What {@link matryoshka} takes beside the embeddings and the objective. */
export interface MatryoshkaOptions {
  /** How many first components each loss sees: whole numbers, best with the whole dimension among them. The paper has halves, down to 8. */
  dimensions: readonly number[];
  /** What each of those losses counts, at least 0. Default 1 each, as in the paper and in sentence-transformers. */
  weights?: readonly number[];
  /** Whether prefixes are scaled to length one. Default true, as in sentence-transformers; it changes nothing where an objective has cosines. */
  normalize?: boolean;
}

/**
 * Matryoshka representation learning (Kusupati et al. 2022, "Matryoshka Representation Learning"): the objective is taken of the first m
 * components of the embeddings too, for several m, so that embeddings can be cut short after training.
 *
 *     loss = Σₘ wₘ · objective(z[1…m])
 *
 * ```ts
 * const loss = matryoshka([images, texts], ([a, b]) => clip(a, b), { dimensions: [512, 256, 128, 64] });
 * ```
 *
 * Each dimension costs the objective once more; the encoder runs once. sentence-transformers can draw some dimensions at random each step:
 * give those alone. What learns in the objective (a temperature) is shared by all dimensions.
 *
 * For embeddings of which an index shall hold shorter ones.
 *
 * @param embeddings tensors [… , D] that the objective takes, cut along their last dimension
 * @param objective the loss of the prefixes, in the order of the embeddings; told their dimension too
 * @returns the weighted sum, shaped as the objective's own losses
 * @throws InvalidArgumentError if there are no dimensions, one is no whole number from 1 to D, or weights do not fit
 */
export function matryoshka<const Tensors extends readonly Tensor[]>(
  embeddings: Tensors,
  objective: (prefixes: { -readonly [K in keyof Tensors]: Tensor }, dimension: number) => Tensor,
  options: MatryoshkaOptions,
): Tensor {
  const { dimensions, normalize = true } = options;
  const weights = options.weights ?? dimensions.map(() => 1);
  check(embeddings, dimensions, weights);
  const prefixes = (dimension: number): Tensor[] =>
    embeddings.map((x) => {
      const prefix = x.narrow(-1, 0, dimension);
      return normalize ? functional.normalize(prefix) : prefix;
    });
  return dimensions
    .map((dimension, i) => objective(prefixes(dimension) as never, dimension).mul(weights[i]!))
    .reduce((a, b) => a.add(b));
}

function check(embeddings: readonly Tensor[], dimensions: readonly number[], weights: readonly number[]): void {
  if (embeddings.length === 0) throw new InvalidArgumentError('matryoshka: there are no embeddings');
  if (dimensions.length === 0) throw new InvalidArgumentError('matryoshka: dimensions: there are none');
  if (weights.length !== dimensions.length) {
    throw new InvalidArgumentError(
      `matryoshka: weights: expected one a dimension, ${dimensions.length}, found ${weights.length}`,
    );
  }
  weights.forEach((weight, i) => {
    checkNumber(weight, `matryoshka: weights[${i}]`);
  });
  for (const [i, x] of embeddings.entries()) {
    if (x.ndim === 0) throw new InvalidArgumentError(`matryoshka: embeddings[${i}] has no dimensions`);
    const most = x.sizeOf(-1);
    for (const dimension of dimensions) {
      if (!Number.isInteger(dimension) || dimension < 1 || dimension > most) {
        throw new InvalidArgumentError(
          `matryoshka: dimensions must be whole numbers from 1 to ${most}, as long as embeddings[${i}], found ${dimension}`,
        );
      }
    }
  }
}
