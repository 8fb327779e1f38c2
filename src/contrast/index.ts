/** Similarities and contrastive objectives. */
export { contrast, explain, type Candidates, type ContrastOptions, type ScoreSimilarity } from './contrast';
export { type ExecutionChoice } from './execution';
export { InfoNCE, type InfoNCEOptions, type InfoNCEParts } from './info-nce';
export {
  decoupledLink,
  defineLink,
  sigmoidLink,
  softmaxLink,
  softmaxOfSumLink,
  type Link,
  type LinkContext,
  type Need,
} from './link';
export { checkEmbeddings, pairedSimilarity, similarityMatrix, type Similarity } from './similarity';
export { pairStatistics, type Execution, type Pairs, type PairSet, type Statistic } from './statistics';
export { LogitScale, type LogitScaleOptions } from './logit-scale';
export { linearCrossEntropy, type LinearCrossEntropyOptions } from './cross-entropy';
export {
  diagnose,
  type DiagnoseOptions,
  type Diagnosis,
  type PairHistogram,
  type SimilaritySummary,
} from './diagnostics';
export * from './objectives';
