/** CARAT: features for each label and modality, told apart by label, modality and whether the label holds. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { checkEmbeddings } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkDevice, checkIds, checkShape, checkTemperature, widened } from './parts';
import { supCon } from './sup-con';

/** What {@link carat} takes beside the features and labels. */
export interface CaratOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.07, as in the authors' code. */
  temperature?: number | Tensor;
  /** Features of earlier batches, [Q, D], with their classes, int64 [Q], as {@link caratClasses} gives them. They get no gradient. */
  queue?: { embeddings: Tensor; classes: Tensor };
}

/**
 * The class of each feature that {@link carat} is given, in its order: l + L·(2m + (0 where label l holds, else 1)) for label l of L and
 * modality m, the same at each level.
 *
 * @param labels bool [N, L]: which labels hold
 * @returns int64 [levels · modalities · N · L]
 * @throws InvalidArgumentError if labels are no bool matrix
 */
export function caratClasses(labels: Tensor, modalities: number, levels = 1): Tensor {
  if (labels.dtype !== 'bool' || labels.ndim !== 2 || labels.numel() === 0) {
    const found = `${labels.dtype} [${labels.shape.join(', ')}]`;
    throw new InvalidArgumentError(`caratClasses: labels: expected bool [N, L], found ${found}`);
  }
  const count = labels.sizeOf(1);
  const range = (length: number): Tensor => torch.arange(length, { dtype: 'int64', device: labels.device });
  const isAbsent = labels.logicalNot().to('int64').unsqueeze(0);
  const modality = range(modalities).mul(2).reshape([modalities, 1, 1]);
  return modality.add(isAbsent).mul(count).add(range(count)).flatten().repeat([levels]);
}

/**
 * The contrastive term of CARAT (Peng, Chen, Shou and Chen 2024, "CARAT: Contrastive Feature Reconstruction and Aggregation for Multi-Modal
 * Multi-Label Emotion Recognition"): SupCon over features that belong to one label and one modality each, in which a class is a label, a
 * modality, and whether the label holds.
 *
 *     lossᵢ = −1/|P(i)| Σ_{p ∈ P(i)} log( exp(sᵢₚ) / Σ_{a ≠ i} exp(sᵢₐ) ),   s = cosine / τ
 *
 * over all features of the batch and of the queue, which are anchors and candidates both, as in the authors' code. That counts a feature whose
 * class nobody else has as 0; here it is left out of the mean. Levels are the features as encoded, as reconstructed and as aggregated.
 *
 * For several labels that may hold at once, read from several modalities.
 *
 * @param features features[k][m] is [N, L, D]: level k of modality m, of any floating-point dtype; as many modalities at each level
 * @param labels bool [N, L]
 * @returns the loss without dimensions; with reduction `'none'` one for each feature, by level, modality, sample and label, then the queue's
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function carat(features: readonly (readonly Tensor[])[], labels: Tensor, options: CaratOptions = {}): Tensor {
  const { temperature = 0.07, queue, ...common } = options;
  const modalities = features[0]?.length ?? 0;
  const [first] = features.flat();
  if (first === undefined) throw new InvalidArgumentError('carat: there are no features');
  const classes = caratClasses(labels, modalities, features.length);
  checkDevice(labels, first, 'carat: labels');
  checkTemperature(temperature, 'carat');
  const dimension = first.sizeOf(-1);
  features.forEach((level, k) => {
    if (level.length !== modalities) {
      throw new InvalidArgumentError(`carat: features[${k}] has ${level.length} modalities, features[0] ${modalities}`);
    }
    level.forEach((x, m) => {
      const name = `carat: features[${k}][${m}]`;
      checkShape(x, [...labels.shape, dimension], name);
      checkEmbeddings(x.flatten(0, 1), name);
      checkDevice(x, first, name);
    });
  });
  const rows = torch.cat(widened(...features.flat()).map((x) => x.flatten(0, 1)));
  if (queue === undefined) return supCon(rows, classes, { ...common, temperature });
  checkEmbeddings(queue.embeddings, 'carat: queue.embeddings', dimension);
  checkDevice(queue.embeddings, first, 'carat: queue.embeddings');
  checkIds(queue.classes, queue.embeddings.sizeOf(0), 'carat: queue.classes', first);
  const [wide, earlier] = widened(rows, queue.embeddings.detach());
  return supCon(torch.cat([wide, earlier]), torch.cat([classes, queue.classes]), { ...common, temperature });
}
