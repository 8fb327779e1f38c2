/** CreamFL: what a client of federated learning learns from representations of public data. */
import { InvalidArgumentError, type Tensor } from '../../torch';
import { contrast, type ScoreSimilarity } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { CommonOptions } from './common-options';
import { checkIds, checkNumber, checkPaired, checkTemperature, positionsOf } from './parts';

/** What {@link creamFl} and its parts take beside the embeddings. */
export interface CreamFlOptions extends CommonOptions {
  /** τ: a number, or a tensor of one element. Default 0.5, as in the authors' code. */
  temperature?: number | Tensor;
  /** The dot product (default, as in the authors' code, whose encoders give what length they do) or another. */
  similarity?: ScoreSimilarity;
}

/**
 * The inter-modal contrast of CreamFL (Yu, Liu, Wang, Xu and Liu 2023, "Multimodal Federated Learning via Contrastive Representation Ensemble"):
 * a client of one modality finds the other modality's global representation of the same public sample among all of them.
 *
 *     lossᵢ = −log( exp(zᵢ·g_{p(i)}/τ) / Σⱼ exp(zᵢ·gⱼ/τ) )
 *
 * @param embeddings [N, D]: the client's of a batch of public samples, of any floating-point dtype
 * @param globals [M, D]: the server's of all public samples in the other modality; no gradient
 * @param positions int64 [N]: which row of `globals` belongs to each sample
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit. A position that is no row counts as a sample without a positive
 */
export function creamFlInter(
  embeddings: Tensor,
  globals: Tensor,
  positions: Tensor,
  options: CreamFlOptions = {},
): Tensor {
  const { temperature = 0.5, similarity = 'dot', ...common } = options;
  checkEmbeddings(embeddings, 'creamFlInter: embeddings');
  checkEmbeddings(globals, 'creamFlInter: globals', embeddings.sizeOf(1));
  checkIds(positions, embeddings.sizeOf(0), 'creamFlInter: positions', embeddings);
  checkTemperature(temperature, 'creamFlInter');
  return contrast({
    ...common,
    anchors: embeddings,
    candidates: { embeddings: globals.detach(), labels: positionsOf(globals.sizeOf(0), embeddings) },
    labels: positions,
    similarity,
    temperature,
  });
}

/**
 * The intra-modal contrast of CreamFL (Yu et al. 2023, as {@link creamFlInter}), which is that of MOON (Li, He and Song 2021, "Model-Contrastive
 * Federated Learning"): nearer to the global representation of the same sample and modality than to what the client's model made of it before.
 *
 *     lossᵢ = −log( exp(zᵢ·gᵢ/τ) / (exp(zᵢ·gᵢ/τ) + exp(zᵢ·oᵢ/τ)) )
 *
 * @param embeddings [N, D], of any floating-point dtype
 * @param globals [N, D]: the server's of the same samples; no gradient
 * @param previous [N, D]: the client's own before this round; no gradient
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function creamFlIntra(
  embeddings: Tensor,
  globals: Tensor,
  previous: Tensor,
  options: CreamFlOptions = {},
): Tensor {
  const { temperature = 0.5, similarity = 'dot', ...common } = options;
  checkPaired(embeddings, globals, 'creamFlIntra', ['embeddings', 'globals']);
  checkPaired(embeddings, previous, 'creamFlIntra', ['embeddings', 'previous']);
  checkTemperature(temperature, 'creamFlIntra');
  return contrast({
    ...common,
    anchors: embeddings,
    positives: globals.detach(),
    negatives: previous.detach().unsqueeze(1),
    similarity,
    temperature,
  });
}

/** What {@link creamFl} takes. */
export interface CreamFlBatch {
  /** [N, D]: the client's representations of a batch of public samples. */
  embeddings: Tensor;
  /** [M, D]: the server's of all public samples, in the client's modality. */
  same: Tensor;
  /** [M, D]: the same in the other modality. */
  other: Tensor;
  /** [N, D]: the client's own before this round. */
  previous: Tensor;
  /** int64 [N]: which row of `same` and `other` belongs to each sample, from 0 to M − 1. */
  positions: Tensor;
}

/**
 * Both contrasts of a CreamFL client: weight · (creamFlInter + creamFlIntra). See {@link creamFlInter} and {@link creamFlIntra}.
 *
 * For federated learning in which clients have one modality each and share representations of public pairs.
 *
 * @returns the loss without dimensions; with reduction `'none'` [N]
 * @throws InvalidArgumentError if shapes, dtypes, devices or options do not fit
 */
export function creamFl(batch: CreamFlBatch, options: CreamFlOptions & { weight?: number } = {}): Tensor {
  const { weight = 0.5, ...common } = options;
  const { embeddings, same, other, previous, positions } = batch;
  checkNumber(weight, 'creamFl: weight');
  checkEmbeddings(embeddings, 'creamFl: embeddings');
  checkEmbeddings(same, 'creamFl: same', embeddings.sizeOf(1));
  checkEmbeddings(other, 'creamFl: other', embeddings.sizeOf(1), same.sizeOf(0));
  checkIds(positions, embeddings.sizeOf(0), 'creamFl: positions', embeddings);
  const [least, most] = [positions.min().itemSync() as number, positions.max().itemSync() as number];
  if (least < 0 || most >= same.sizeOf(0)) {
    throw new InvalidArgumentError(
      `creamFl: positions must be from 0 to ${same.sizeOf(0) - 1}, found ${least} to ${most}`,
    );
  }
  return creamFlInter(embeddings, other, positions, common)
    .add(creamFlIntra(embeddings, same.indexSelect(0, positions), previous, common))
    .mul(weight);
}
