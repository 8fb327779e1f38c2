/** The batch-norm family, what replaces it, and tools for a model's norms. */
export { activationGain, type NFActivation } from './activation-gain';
export { BatchChannelNorm, type BatchChannelNormOptions } from './batch-channel-norm';
export { BatchChannelNorm1d } from './batch-channel-norm1d';
export { BatchChannelNorm2d } from './batch-channel-norm2d';
export { BatchNorm, type BatchNormOptions } from './batch-norm';
export { BatchNorm1d } from './batch-norm1d';
export { BatchNorm2d } from './batch-norm2d';
export { BatchNorm3d } from './batch-norm3d';
export { BatchRenorm, crossqRenorm, jointForward, type BatchRenormOptions } from './batch-renorm';
export { BatchRenorm1d } from './batch-renorm1d';
export { BatchRenorm2d } from './batch-renorm2d';
export { BatchRenorm3d } from './batch-renorm3d';
export { standardizeBatchStyles, type BatchStylesOptions } from './batch-styles';
export { ConvBN2d, type ConvBN2dOptions, type ConvBN2dParts, type ConvBNMode } from './conv-bn2d';
export { convertConvBN, setConvBNMode, type ConvertConvBNOptions } from './convert-conv-bn';
export {
  convertNorms,
  toBatchNorm,
  toDomainBatchNorm,
  toGhostBatchNorm,
  toGroupNorm,
  toIdentity,
  toInstanceNorm,
  toNorm,
  toSplitBatchNorm,
  type NormConversion,
} from './convert-norms';
export { CrossIterationBatchNorm, type CrossIterationBatchNormOptions } from './cross-iteration-batch-norm';
export { CrossMiniBatchNorm, type CrossMiniBatchNormOptions } from './cross-mini-batch-norm';
export { probeDepth, type DepthProbeOptions, type DepthRow } from './depth-probes';
export { DomainBatchNorm, setDomain, withDomain, type DomainBatchNormOptions } from './domain-batch-norm';
export { DomainBatchNorm1d } from './domain-batch-norm1d';
export { DomainBatchNorm2d } from './domain-batch-norm2d';
export { DomainBatchNorm3d } from './domain-batch-norm3d';
export { estimateStatistics, type EstimateStatisticsOptions } from './estimate-statistics';
export { FilterResponseNorm, type FilterResponseNormOptions } from './filter-response-norm';
export { foldBatchNorm, type FoldBatchNormOptions, type FoldedBatchNorm } from './fold-batch-norm';
export { freezeNorms, isFrozen, unfreezeNorms, type FreezeNormsOptions } from './freeze';
export { GhostBatchNorm, type GhostBatchNormOptions } from './ghost-batch-norm';
export { GhostBatchNorm1d } from './ghost-batch-norm1d';
export { GhostBatchNorm2d } from './ghost-batch-norm2d';
export { GhostBatchNorm3d } from './ghost-batch-norm3d';
export { GroupNorm, type GroupNormOptions } from './group-norm';
export { type Grouping } from './grouped-batch';
export { InstanceNorm, type InstanceNormOptions } from './instance-norm';
export { InstanceNorm1d } from './instance-norm1d';
export { InstanceNorm2d } from './instance-norm2d';
export { InstanceNorm3d } from './instance-norm3d';
export { IterativeWhitening, type IterativeWhiteningOptions } from './iterative-whitening';
export { LayerNorm, type LayerNormOptions } from './layer-norm';
export { detectLeak, type EncodePair, type LeakOptions, type LeakReport, type MomentumTrainer } from './leak-detector';
export {
  normFactory1d,
  normFactory2d,
  normNames1d,
  normNames2d,
  type Norm1d,
  type Norm2d,
  type NormFactory,
  type Norms1d,
  type Norms2d,
} from './named-norms';
export {
  decayGroups,
  isNorm,
  normParameters,
  trainNormsOnly,
  type DecayGroup,
  type TrainNormsOnlyOptions,
} from './norm-only';
export { orthogonal_ } from './orthogonal';
export { OrthogonalBatchNormMLP, isometryGap, type OrthogonalBatchNormMLPOptions } from './orthogonal-batch-norm-mlp';
export { PowerNorm, type PowerNormOptions } from './power-norm';
export { ReluNormalize, orthogonalFrameDistance } from './relu-normalize';
export { RMSNorm, type RMSNormOptions } from './rms-norm';
export {
  ScaledWeightStandardizedConv2d,
  type ScaledWeightStandardizedConv2dOptions,
} from './scaled-weight-standardized-conv2d';
export { shuffledBatch, type RowExchange, type ShuffledBatchOptions } from './shuffle-batch-norm';
export { shuffleDivergence, type ShuffleDivergence, type ShuffleDivergenceOptions } from './shuffle-divergence';
export {
  gradientNorms,
  signalPropagation,
  type GradientRow,
  type SignalPropagationOptions,
  type SignalRow,
} from './signal-propagation';
export { SplitBatchNorm, type SplitBatchNormOptions } from './split-batch-norm';
export { SplitBatchNorm1d } from './split-batch-norm1d';
export { SplitBatchNorm2d } from './split-batch-norm2d';
export { SplitBatchNorm3d } from './split-batch-norm3d';
export {
  SyncBatchNorm,
  joinStatistics,
  type JoinedStatistics,
  type StatisticsExchange,
  type SyncBatchNormOptions,
} from './sync-batch-norm';
export { UncenteredBatchNorm1d } from './uncentered-batch-norm1d';
export { UnMixTns, type UnMixTnsOptions } from './unmix-tns';
export { WeightStandardizedConv2d, type WeightStandardizedConv2dOptions } from './weight-standardized-conv2d';
export {
  CholeskyWhitening,
  Whitening,
  whitenSubBatches,
  type SubBatchOptions,
  type WhiteningOptions,
} from './whitening';
export { withoutPadding } from './without-padding';
