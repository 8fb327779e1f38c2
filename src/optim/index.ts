/** Optimisers, learning-rate schedules, gradient clipping and moving averages of weights. */
export { AdamW, type AdamWOptions } from './adamw';
export { adaptiveGradientClipping, type AdaptiveGradientClippingOptions } from './adaptive-gradient-clipping';
export { clipGradientNorm } from './clip-gradient-norm';
export {
  ExponentialMovingAverage,
  type BufferPolicy,
  type ExponentialMovingAverageOptions,
} from './exponential-moving-average';
export { cosineMomentum, risingMomentum, type MomentumSchedule } from './momentum-schedule';
export { Optimizer, type OptimizerGroup, type ParameterGroup, type Update } from './optimizer';
export { SGD, type SGDOptions } from './sgd';
export { WarmupCosine, warmupCosine, type HasLearningRates, type WarmupCosineShape } from './warmup-cosine';
