/** Objectives by name, one file each. */
export {
  alignmentLoss,
  uniformityLoss,
  alignmentAndUniformity,
  type AlignmentOptions,
  type UniformityOptions,
  type AlignmentAndUniformityOptions,
} from './alignment-uniformity';
export { Amcl, type AmclOptions } from './amcl';
export { cacr, cacrParts, type CacrOptions, type CacrParts } from './cacr';
export { cccWav2Vec2, type CccWav2Vec2Options, type SpeechFrames } from './ccc-wav2vec2';
export { clip, type ClipOptions } from './clip';
export { type CommonOptions, type SimilarityOptions } from './common-options';
export { curl, curlBlock, type CurlOptions, type CurlBlockOptions } from './curl';
export { dcl, dclW, type DclOptions, type DclWOptions } from './dcl';
export { dclr, noiseNegatives, type DclrOptions, type NoiseNegativesOptions } from './dclr';
export { debiased, type DebiasedOptions } from './debiased';
export { dexml, softTopK, type Classes, type DexmlOptions, type SoftTopKOptions } from './dexml';
export { gist, type GistGuides, type GistOptions } from './gist';
export { Gml, type GmlOptions, type GmlBatch } from './gml';
export { groco, softSort, type GrocoOptions, type SoftSorted, type SoftSortOptions } from './groco';
export { hardNegative, type HardNegativeOptions } from './hard-negative';
export {
  hardContrastive,
  penaltyShares,
  negativeShareEntropy,
  tolerance,
  type HardContrastiveOptions,
  type NegativeShareOptions,
  type ToleranceOptions,
} from './hardness';
export { ClassPairGate, gatedContrastive, type ClassPairGateOptions, type GatedContrastiveOptions } from './hydra';
export { Meco, type MecoOptions } from './meco';
export {
  AdaMeow,
  meow,
  prototypeContrast,
  type AdaMeowOptions,
  type MeowOptions,
  type PrototypeContrastOptions,
} from './meow';
export {
  generativeContrastiveAlignment,
  modalityPairwise,
  type GenerativeContrastiveAlignmentOptions,
  type ModalityPairwiseOptions,
} from './modality-pairwise';
export { multipleNegatives, type MultipleNegativesOptions } from './multiple-negatives';
export {
  BilinearCritic,
  ConcatenatedCritic,
  infoNceBound,
  mutualInformationLoss,
  nwjBound,
  SeparableCritic,
  type BilinearCriticOptions,
  type ConcatenatedCriticOptions,
  type CriticPlacement,
  type SeparableCriticOptions,
} from './mutual-information';
export {
  featureStatistics,
  nonNegativeContrastive,
  repRelu,
  RepReLU,
  type FeatureStatistics,
  type NonNegativeActivation,
  type NonNegativeContrastiveOptions,
} from './ncl';
export { ntXent, type NtXentOptions } from './nt-xent';
export { type Reduction } from './parts';
export {
  patchNce,
  PatchSampler,
  type PatchNceOptions,
  type PatchSamplerOptions,
  type SampledPatches,
} from './patch-nce';
export { pnda, type PndaOptions } from './pnda';
export { sbcl, type SbclOptions } from './sbcl';
export { scav, sequenceDistances, type ScavOptions, type SequenceDistance, type SequenceDistanceOptions } from './scav';
export { siglip, type SiglipOptions } from './siglip';
export { supCon, type SupConOptions } from './sup-con';
