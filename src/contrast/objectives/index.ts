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
export { carat, caratClasses, type CaratOptions } from './carat';
export { cccWav2Vec2, type CccWav2Vec2Options, type SpeechFrames } from './ccc-wav2vec2';
export { clhe, type ClheOptions } from './clhe';
export { clip, type ClipOptions } from './clip';
export { type CommonOptions, type SimilarityOptions } from './common-options';
export { co2, type Co2Options } from './co2';
export { conan, cosent, type ConanBatch, type ConanOptions, type CosentOptions } from './cosent';
export { creamFl, creamFlInter, creamFlIntra, type CreamFlBatch, type CreamFlOptions } from './cream-fl';
export { cse, cseReconstruction, type CseOptions } from './cse';
export { curl, curlBlock, type CurlOptions, type CurlBlockOptions } from './curl';
export { dcl, dclW, type DclOptions, type DclWOptions } from './dcl';
export { dclr, noiseNegatives, type DclrOptions, type NoiseNegativesOptions } from './dclr';
export { debiased, type DebiasedOptions } from './debiased';
export { dexml, softTopK, type Classes, type DexmlOptions, type SoftTopKOptions } from './dexml';
export { directClr, type DirectClrOptions } from './direct-clr';
export { dualViewMoCo, type DualViewMoCoOptions } from './dual-view-moco';
export {
  falseNegativeAttraction,
  falseNegativeElimination,
  type FalseNegativeOptions,
  type FalseNegativeSearch,
} from './false-negatives';
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
export { hardnessWeighted, type HardnessWeightedOptions } from './hardness-weighted';
export {
  ClassPairGate,
  gatedContrastive,
  type ClassPairGateOptions,
  type GatedClasses,
  type GatedContrastiveOptions,
} from './hydra';
export { macl, type MaclOptions } from './macl';
export { matryoshka, type MatryoshkaOptions } from './matryoshka';
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
export { nearestInSupport, nnclr, type NeighborLookup, type NnclrOptions } from './nnclr';
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
export { saFas, type SaFasOptions } from './sa-fas';
export { sbcl, type SbclOptions } from './sbcl';
export { scav, sequenceDistances, type ScavOptions, type SequenceDistance, type SequenceDistanceOptions } from './scav';
export { siglip, type SiglipOptions } from './siglip';
export { socialNce, type SocialNceOptions } from './social-nce';
export { supCon, type SupConOptions } from './sup-con';
export { supReMix, type SupReMixOptions } from './sup-re-mix';
export { uniClr, type UniClrOptions } from './uni-clr';
