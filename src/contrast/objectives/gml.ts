/** GML: recognition as mutual information between features and labels. */
import { InvalidArgumentError, torch, type Device, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional, Module, Parameter } from '../../nn';
import { checkEmbeddings } from '../similarity';
import { checkDevice, checkIds, checkNumber, checkShape, widened } from './parts';

/** What a {@link Gml} is made from. */
export interface GmlOptions {
  /** How many training samples each class has: the prior π. All above 0. */
  classCounts: readonly number[];
  /** T_c at first, the temperature of the features' scores, which learns. Default 1, as the authors. */
  temperature?: number;
  /** T_s, by which the classifier's logits are divided. Default 1/30, as the authors, whose logits are cosines. */
  classifierTemperature?: number;
  /** β, the weight of the features' term. Default 1. */
  featureWeight?: number;
  /** γ, the weight of the classifier's term. Default 1. */
  classifierWeight?: number;
  /** α, the weight of distillation from a teacher. Default 0. */
  distillationWeight?: number;
  /** The temperature of distillation. Default 4, as the authors. */
  distillationTemperature?: number;
  /** Whether queries and keys are taken to length one. Default true; the authors' loss expects it done. */
  normalize?: boolean;
  device?: Device;
}

/** What a {@link Gml} is given a batch. */
export interface GmlBatch {
  /** [N, D] */
  queries: Tensor;
  /** int64 [N], from 0 */
  labels: Tensor;
  /** int64 [N]: the samples' numbers, so that a sample is not its own key where the temperature learns. Default: all samples are distinct. */
  ids?: Tensor;
  /** [K, D]: a queue of a momentum encoder's embeddings. */
  keys: Tensor;
  /** int64 [K] */
  keyLabels: Tensor;
  /** int64 [K] */
  keyIds?: Tensor;
  /** [N, C]: the classifier's logits. */
  logits: Tensor;
  /** [N, C]: a teacher's, for distillation. */
  teacherLogits?: Tensor;
}

/**
 * GML (Suh and Seo 2023, "Long-Tailed Recognition by Mutual Information Maximization between Latent Features and Ground-Truth Labels"): a class's
 * score is the log-mean-exp of a feature's likeness to the class's keys, and the prior of classes is added to the scores, which evens out a long tail.
 *
 *     S(i, c; T) = log( 1/|K_c| Σ_{k∈K_c} exp(qᵢ·k/T) )
 *     L = γ·CE(logits/T_s + log π) + β·( CE(S(T_c) + log π) + CE(S′(T_c) + log π) ) + α·KD
 *
 * In S the temperature gets no gradient, in S′ the embeddings get none and a sample's own key is left out: it is there for the temperature to learn.
 * A class without keys is left out of a sum, and a sample whose own class has none out of the mean. KD is the divergence of both logits over T_s
 * from the teacher's, softened by 4 and multiplied by 16. It is dense: [N, K].
 *
 * log T_c is a parameter, `log_temperature`; leave it out of weight decay.
 */
export class Gml extends Module<[GmlBatch]> {
  readonly logTemperature: Parameter;
  readonly logPrior: Tensor;
  readonly classifierTemperature: number;
  readonly featureWeight: number;
  readonly classifierWeight: number;
  readonly distillationWeight: number;
  readonly distillationTemperature: number;
  readonly normalize: boolean;

  constructor(options: GmlOptions) {
    super();
    const { classCounts, temperature = 1, classifierTemperature = 1 / 30, normalize = true, device = 'cpu' } = options;
    const { featureWeight = 1, classifierWeight = 1, distillationWeight = 0, distillationTemperature = 4 } = options;
    for (const [name, value] of Object.entries({ temperature, classifierTemperature, distillationTemperature })) {
      checkNumber(value, `Gml: ${name}`, { above: true });
    }
    for (const [name, value] of Object.entries({ featureWeight, classifierWeight, distillationWeight })) {
      checkNumber(value, `Gml: ${name}`);
    }
    if (classCounts.length === 0) throw new InvalidArgumentError('Gml: classCounts must hold at least one class');
    classCounts.forEach((count, c) => {
      checkNumber(count, `Gml: the count of class ${c}`, { above: true });
    });
    const total = classCounts.reduce((sum, count) => sum + count, 0);
    this.logTemperature = new Parameter(torch.tensor(Math.log(temperature), { dtype: 'float32', device }));
    const prior = classCounts.map((count) => Math.log(count / total));
    this.logPrior = this.registerBuffer('logPrior', torch.tensor(prior, { dtype: 'float64', device }));
    this.classifierTemperature = classifierTemperature;
    this.featureWeight = featureWeight;
    this.classifierWeight = classifierWeight;
    this.distillationWeight = distillationWeight;
    this.distillationTemperature = distillationTemperature;
    this.normalize = normalize;
  }

  /**
   * @returns the loss, without dimensions
   * @throws InvalidArgumentError if shapes do not fit
   */
  override forward(batch: GmlBatch): Tensor {
    this.#check(batch);
    const { labels, ids, keyLabels, keyIds, teacherLogits } = batch;
    return withoutAutocast(batch.queries, () => {
      const [rawQueries, rawKeys, rawLogits] = widened(batch.queries, batch.keys, batch.logits);
      const [queries, keys] = [rawQueries, rawKeys].map((x) => (this.normalize ? functional.normalize(x) : x));
      const { dtype } = queries!;
      const prior = this.logPrior.to({ dtype });
      const logits = rawLogits.div(this.classifierTemperature);
      const terms = [torch.crossEntropyLoss(logits.add(prior), labels).mul(this.classifierWeight)];
      if (this.featureWeight > 0) {
        const products = queries!.matmul(keys!.t());
        const temperature = this.logTemperature.to({ dtype }).exp();
        const others = ids === undefined || keyIds === undefined ? null : ids.unsqueeze(1).ne(keyIds.unsqueeze(0));
        const scores = classMeans(products.div(temperature.detach()), keyLabels, prior.numel(), null);
        const learning = classMeans(products.detach().div(temperature), keyLabels, prior.numel(), others);
        for (const one of [scores, learning]) {
          terms.push(maskedCrossEntropy(one.add(prior), labels).mul(this.featureWeight));
        }
      }
      if (this.distillationWeight > 0 && teacherLogits !== undefined) {
        const scale = this.classifierTemperature * this.distillationTemperature;
        const student = rawLogits.div(scale).logSoftmax(1);
        const teacher = teacherLogits.to({ dtype }).div(scale).logSoftmax(1);
        const divergence = teacher.exp().mul(teacher.sub(student)).sum([1]).mean();
        terms.push(divergence.mul(this.distillationTemperature ** 2 * this.distillationWeight));
      }
      return terms.reduce((sum, term) => sum.add(term));
    });
  }

  #check({ queries, labels, ids, keys, keyLabels, keyIds, logits, teacherLogits }: GmlBatch): void {
    checkEmbeddings(queries, 'Gml: queries');
    const [count, dimension] = [queries.sizeOf(0), queries.sizeOf(1)];
    checkEmbeddings(keys, 'Gml: keys', dimension);
    checkDevice(keys, queries, 'Gml: keys');
    checkDevice(this.logPrior, queries, 'Gml: the module');
    checkIds(labels, count, 'Gml: labels', queries);
    checkIds(keyLabels, keys.sizeOf(0), 'Gml: keyLabels', queries);
    if (ids !== undefined) checkIds(ids, count, 'Gml: ids', queries);
    if (keyIds !== undefined) checkIds(keyIds, keys.sizeOf(0), 'Gml: keyIds', queries);
    if ((ids === undefined) !== (keyIds === undefined)) {
      throw new InvalidArgumentError('Gml: ids and keyIds go together: give both or neither');
    }
    const shape = [count, this.logPrior.numel()];
    checkShape(logits, shape, 'Gml: logits');
    if (teacherLogits !== undefined) checkShape(teacherLogits, shape, 'Gml: teacherLogits');
  }
}

/** The log-mean-exp of each row's scores class by class, [N, C]; −∞ for a class without a key that counts. */
function classMeans(scores: Tensor, keyLabels: Tensor, classes: number, counts: Tensor | null): Tensor {
  const rows = scores.sizeOf(0);
  const index = keyLabels.unsqueeze(0).expandAs(scores);
  const allowed = counts === null ? scores : scores.maskedFill(counts.logicalNot(), -Infinity);
  const none = scores.newFull([rows, classes], -Infinity);
  // Each class has its own greatest score, so that one far below another does not vanish.
  const greatest = none.scatterReduce(1, index, allowed.detach(), 'amax');
  const finite = torch.where(greatest.eq(-Infinity), greatest.newZeros([]), greatest);
  const parts = allowed.sub(finite.gather(1, index)).exp();
  const sums = scores.newZeros([rows, classes]).scatterAdd(1, index, parts);
  const ones = counts === null ? torch.onesLike(scores) : counts.to({ dtype: scores.dtype });
  const sizes = scores.newZeros([rows, classes]).scatterAdd(1, index, ones.detach());
  const any = sizes.gt(0);
  const safe = torch.where(any, sums, sums.newOnes([]));
  return torch.where(any, safe.log().add(finite).sub(sizes.clampMin(1).log()), none);
}

/** The cross-entropy where the label's own score is not −∞: the mean over these, 0 if there are none. */
function maskedCrossEntropy(scores: Tensor, labels: Tensor): Tensor {
  const own = scores.gather(1, labels.unsqueeze(1));
  const has = own.ne(-Infinity);
  const filled = torch.where(has, scores, scores.newZeros([]));
  const losses = filled.logsumexp([1], true).sub(filled.gather(1, labels.unsqueeze(1)));
  return torch.where(has, losses, losses.newZeros([])).sum().div(has.sum().clampMin(1));
}
