/** Which rows make a batch: samplers for loaders and for training loops. */
export { BatchBindingSampler, type BatchBindingSamplerOptions } from './batch-binding';
export { CategoryBalanceSampler, type CategoryBalanceSamplerOptions } from './category-balance';
export { GSimclrSampler, type GSimclrSamplerOptions } from './g-simclr';
export { GroupByLabelSampler, type GroupByLabelSamplerOptions } from './group-by-label';
export type { Integers } from './groups';
export { HierarchicalSampler, type HierarchicalSamplerOptions } from './hierarchical';
export {
  HierarchicalCurationSampler,
  hierarchicalDraw,
  levelled,
  type HierarchicalCurationSamplerOptions,
} from './hierarchical-curation';
export { JestSampler, jointSelection, type JestSamplerOptions, type JointSelectionOptions, type Logits } from './jest';
export { MPerClassSampler, type MPerClassSamplerOptions } from './m-per-class';
export { NbpoSampler, nbpoLoss, trueNegativeProbability, type NbpoBatch, type NbpoSamplerOptions } from './nbpo';
export { nearestBySimilarity, nearestOnGlobe } from './neighbours';
export { NgameSampler, type NgameSamplerOptions } from './ngame';
export { NoDuplicatesSampler, type Key, type NoDuplicatesSamplerOptions } from './no-duplicates';
export { Node2VecSampler, type GraphEdges, type Node2VecBatch, type Node2VecSamplerOptions } from './node2vec';
export { ProportionalSampler } from './proportional';
export { RandomSampler, type RandomSamplerOptions } from './random';
export { Deck, RandomSource } from './random-source';
export { RoundRobinSampler, type RoundRobinSamplerOptions } from './round-robin';
export { Sample4GeoSampler, type Sample4GeoSamplerOptions } from './sample4geo';
export {
  EpochSampler,
  RefreshableSampler,
  type Derived,
  type SampledBatch,
  type Sampler,
  type SamplerOptions,
  type Shard,
} from './sampler';
export { SeveralSetsSampler, type SetBatch, type SeveralSetsOptions } from './several-sets';
export { ShuffleSampler, type ShuffleMode, type ShuffleSamplerOptions } from './shuffle';
export { TasBalancedSampler, type TasBalancedBatch, type TasBalancedSamplerOptions } from './tas-balanced';
