/** Queues and banks of embeddings, and what else training remembers. */
export { BadPairMining, type BadPairMiningOptions } from './bad-pair-mining';
export { ClassPrototypes, type ClassPrototypesOptions } from './class-prototypes';
export { CorpusBank, type CorpusBankOptions, type DrawnNegatives } from './corpus-bank';
export { CrossBatchMemory, type CrossBatchMemoryOptions } from './cross-batch-memory';
export { InstanceBank, type InstanceBankOptions } from './instance-bank';
export { MappedBank, type MappedBankOptions, type MappedRows } from './mapped-bank';
export { NearestNeighbourBank, type BankNeighbours, type NearestNeighbourBankOptions } from './nearest-neighbour-bank';
export { ProgressiveTargets, softTargetCrossEntropy, type ProgressiveTargetsOptions } from './progressive-targets';
export { PseudoLabels, type PseudoLabelsOptions } from './pseudo-labels';
export { Queue, type QueueOptions } from './queue';
export { RationaleInvariance, type RationaleInvarianceOptions } from './rationale-invariance';
export {
  RingBuffer,
  type ColumnSpec,
  type EntryOptions,
  type EntryOrder,
  type GatherRows,
  type MemoryCandidates,
  type RingBufferOptions,
} from './ring-buffer';
export { SampleHistory, type SampleHistoryOptions } from './sample-history';
export { SoftKnn, type SoftKnnOptions } from './soft-knn';
export { type StoredDType } from './stored';
