/** Mining: which pairs, triplets and negatives a loss shall see. */
export { ANCE, type ANCEOptions, type EncodedDocuments } from './ance';
export { ANCETele, type ANCETeleInput, type ANCETeleOptions } from './ance-tele';
export { angular, type AngularOptions } from './angular';
export { ApproximateIndex, type ApproximateIndexOptions, type PrepareOptions } from './approximate-index';
export { batchEasy } from './batch-easy';
export { batchEasyHard, type BatchEasyHardOptions, type BatchStrategy } from './batch-easy-hard';
export { batchHard } from './batch-hard';
export { DistanceWeightedMiner, type DistanceWeightedOptions } from './distance-weighted';
export { easyPositive, type EasyPositiveOptions } from './easy-positive';
export {
  HardNegativeMiner,
  minedRows,
  minedWeights,
  mineHardNegatives,
  negativeRows,
  type HardNegativeInput,
  type HardNegativeMinerOptions,
  type NegativeLimits,
  type HardNegatives,
  type KeySource,
  type MineHardNegativesOptions,
  type NegativeRows,
  type NegativeRowsOptions,
} from './hard-negatives';
export type { MinerBatch, MinerDistance, MinerOptions } from './miner';
export { multiSimilarity, type MultiSimilarityOptions } from './multi-similarity';
export type { DocumentNegatives } from './negative-pool';
export { packedTriplets } from './packed-triplets';
export { pairMargin, type PairMarginOptions } from './pair-margin';
export {
  pairMasks,
  pairRows,
  pairsOf,
  pairWeights,
  tripletRows,
  tripletsOf,
  type MinedIndices,
  type OwnPairs,
  type PairIndices,
  type PairMasks,
  type PairWeightsOptions,
  type TripletIndices,
} from './pairs-and-triplets';
export {
  ExactIndex,
  type DocumentOptions,
  type ExactIndexOptions,
  type FoundDocuments,
  type SearchIndex,
} from './search-index';
export { semiHard, type SemiHardOptions } from './semi-hard';
export { SimANS, type SimANSForm, type SimANSInput, type SimANSOptions } from './simans';
export {
  adoreLoss,
  adoreSearch,
  STAR,
  starLoss,
  type ADORELossOptions,
  type ADORERanking,
  type STARLossOptions,
  type STAROptions,
} from './star-adore';
export { tripletMargin, type TripletMarginOptions } from './triplet-margin';
export { UniformHistogramMiner, type UniformHistogramOptions } from './uniform-histogram';
