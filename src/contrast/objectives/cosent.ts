/** CoSENT, and its use beside InfoNCE in Conan-embedding. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { softplus } from '../logarithms';
import { withoutAutocast } from '../../torch/autograd';
import { pairedSimilarity } from '../similarity';
import { multipleNegatives, type MultipleNegativesOptions } from './multiple-negatives';
import { checkDevice, checkNumber, checkPaired, checkShape, checkTemperature, widened } from './parts';

/** What {@link cosent} takes beside the pairs. */
export interface CosentOptions {
  /** τ: a number, or a tensor of one element. Default 0.05: the scale of 20 that sentence-transformers has. */
  temperature?: number | Tensor;
}

/**
 * CoSENT (Su 2022, "CoSENT: A more efficient sentence vector scheme than Sentence-BERT"): pairs that should be more alike have the higher
 * cosine. What grades are counts only by their order.
 *
 *     loss = log( 1 + Σ_{yᵢ > yⱼ} exp((cⱼ − cᵢ)/τ) ),   cᵢ = cos(aᵢ, bᵢ)
 *
 * Computed densely over all pairs of pairs, numbers and not vectors. Pairs of one grade are not compared; without two grades the loss is 0.
 *
 * For sentence pairs with graded similarities.
 *
 * @param first [N, D], of any floating-point dtype
 * @param second [N, D]
 * @param targets [N], numbers: how alike row i of both should be
 * @returns the loss, without dimensions
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function cosent(first: Tensor, second: Tensor, targets: Tensor, options: CosentOptions = {}): Tensor {
  const { temperature = 0.05 } = options;
  checkGraded(first, second, targets, 'cosent');
  checkTemperature(temperature, 'cosent');
  return withoutAutocast(first, () => {
    const cosines = pairedSimilarity(...widened(first, second)).div(temperature);
    const isAbove = targets.unsqueeze(1).gt(targets.unsqueeze(0));
    const any = isAbove.any();
    // LibTorch's logsumexp has no gradient where all terms are −∞.
    const terms = cosines
      .unsqueeze(0)
      .sub(cosines.unsqueeze(1))
      .maskedFill(isAbove.logicalNot().logicalAnd(any), -Infinity);
    return torch.where(any, softplus(terms.logsumexp([0, 1])), cosines.newZeros([]));
  });
}

/** What {@link conan} takes. */
export interface ConanBatch {
  /** Pairs of query and passage, [N, D] each, with hard negatives as {@link multipleNegatives} takes them. */
  retrieval: { queries: Tensor; positives: Tensor; negatives?: Tensor };
  /** Pairs of sentences, [M, D] each, with their grades, [M]. */
  similarity: { first: Tensor; second: Tensor; targets: Tensor };
}

/** What {@link conan} takes beside the batch. */
export interface ConanOptions extends Pick<MultipleNegativesOptions, 'execution'> {
  /** β, the weight of the similarity task. Default 0.8, as in the paper. */
  weight?: number;
  /** τ of the retrieval task. Default 0.05. */
  temperature?: number | Tensor;
  /** τ of the similarity task. Default 0.05. */
  similarityTemperature?: number | Tensor;
}

/**
 * The balanced loss of Conan-embedding (Li, Tang, Chen and Chen 2024, "Conan-embedding: General Text Embedding with More and Better Negative
 * Samples"): retrieval and graded similarity in each step, so that tasks do not take turns.
 *
 *     loss = InfoNCE(queries, positives, negatives) + β·CoSENT(first, second, targets)
 *
 * The paper's formula has hard negatives alone in the softmax, those of all devices that share a query; here the other queries' positives are in it
 * too. Gather negatives of all processes first. {@link multipleNegatives} and {@link cosent} are the parts.
 *
 * For general text embeddings, trained on several tasks.
 *
 * @returns the loss, without dimensions
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function conan(batch: ConanBatch, options: ConanOptions = {}): Tensor {
  const { weight = 0.8, temperature = 0.05, similarityTemperature = 0.05, execution } = options;
  const { queries, positives, negatives } = batch.retrieval;
  const { first, second, targets } = batch.similarity;
  checkNumber(weight, 'conan: weight');
  checkGraded(first, second, targets, 'conan: similarity');
  checkTemperature(similarityTemperature, 'conan: similarity');
  const retrieval = multipleNegatives(queries, positives, {
    temperature,
    ...(negatives && { negatives }),
    ...(execution && { execution }),
  });
  return retrieval.add(cosent(first, second, targets, { temperature: similarityTemperature }).mul(weight));
}

function checkGraded(first: Tensor, second: Tensor, targets: Tensor, what: string): void {
  checkPaired(first, second, what);
  checkShape(targets, [first.sizeOf(0)], `${what}: targets`);
  checkDevice(targets, first, `${what}: targets`);
  if (targets.dtype === 'bool') throw new InvalidArgumentError(`${what}: targets must be numbers, found bool`);
}
