/** Mixing: negatives, positives and inputs made of others. */
export {
  FeatureTransformation,
  scoreStatistics,
  type FeatureTransformationOptions,
  type ScoreStatistics,
  type TransformedFeatures,
} from './feature-transformation';
export { iMix, mixVirtual, type IMixOptions, type MixVirtualOptions } from './i-mix';
export {
  metrix,
  metrixMixed,
  metrixTriples,
  metrixUtilization,
  type MetrixForm,
  type MetrixFormOptions,
  type MetrixOptions,
  type MetrixTriples,
} from './metrix';
export { areaOutside, boxMask, cutMix, drawBeta, drawBox, mixup, type Box, type MixedInputs } from './mix';
export { Randomised } from '../randomised';
export { MoCHi, type MoCHiLossOptions, type MoCHiOptions, type MoCHiParts } from './mochi';
export { mixupNdcg, mixupRankingLoss, type MixupNdcgOptions, type MixupRankingOptions } from './rankmixup';
export { cMixup, regMix, type CMixupOptions, type RegMixOptions, type RegressionMix } from './regmix';
export { seA, semanticAdversarial, type SeAOptions } from './sea';
export {
  contradictingPartners,
  generalizedSupCon,
  selecMix,
  type ContradictingPairs,
  type ContradictingPartners,
  type GeneralizedSupConOptions,
  type SelecMixed,
  type SelecMixOptions,
} from './selecmix';
export {
  drawBalanced,
  resampledWith,
  selectPartners,
  type DrawBalancedOptions,
  type PartnerRule,
  type SelectedPartners,
  type SelectPartnersOptions,
} from './selective-mixup-resampling';
export { suMix, suMixShares, type SUMixBatch, type SUMixOptions } from './sumix';
export { mixTargets, transMixShares, type TransMixOptions } from './transmix';
