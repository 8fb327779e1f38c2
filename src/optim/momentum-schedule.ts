/**
 * How slowly a moving average forgets, step by step. A schedule is a function of the number of updates made so far.
 */
import { numberWithin, positiveInteger } from '../nn/checks';

/** One momentum in [0, 1] for all steps, or a function of the number of updates made so far. */
export type MomentumSchedule = number | ((step: number) => number);

/**
 * From `start` to 1 along half a cosine over T steps: 1 − (1 − start) · (1 + cos(π s / T)) / 2 (Grill et al. 2020, "BYOL").
 */
export function cosineMomentum(options: { start: number; stepsTotal: number }): (step: number) => number {
  const start = numberWithin(0, 1, options.start, 'cosineMomentum: start');
  const total = positiveInteger(options.stepsTotal, 'cosineMomentum: stepsTotal');
  return (step) => 1 - ((1 - start) * (1 + Math.cos((Math.PI * Math.min(step, total)) / total))) / 2;
}

/**
 * min(limit, (1 + s) / (10 + s)): short memory in the first steps, when the weights move far, as in TensorFlow's
 * moving average. It reaches a limit of 0.97 after some 290 steps and 0.99 after some 890; a training of fewer steps never
 * has it, and wants the limit itself.
 */
export function risingMomentum(options: { limit: number }): (step: number) => number {
  const limit = numberWithin(0, 1, options.limit, 'risingMomentum: limit');
  return (step) => Math.min(limit, (1 + step) / (10 + step));
}
