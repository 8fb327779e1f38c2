/** Training: recipes and their options, the trainer, checkpoints, metrics. */
export * from './checkpoint';
export * from './evaluate-run';
export * from './load-recipe';
export * from './metrics';
export * from './options';
export * from './precision';
export * from './progress';
export * from './recipe';
export * from './run-folder';
export * from './run-lock';
export * from './trainer';
export * from './training';
export {
  gradCache,
  type ChunkRule,
  type GradCacheOptions,
  type GradCacheResult,
  type GradCacheTower,
} from './grad-cache';
