/** The operators of `native/norm`, by name. All take x [N, C, …] in any floating-point dtype, on any device. */
import { ops, type DType, type Tensor } from '../torch';

const norm = ops.kontrast!;

/**
 * The groups of samples that share statistics: how many samples each of them has, in the order of the batch. `[N]`: the batch as one;
 * `[]`: each sample for itself. What is one number a group and channel is then [C] or [N, C], else [groups, C].
 */
export type GroupSizes = readonly number[];

/** The mean and the biased variance of each group, without gradients; in float64 for float64, else in float32. */
export function groupMoments(x: Tensor, sizes: GroupSizes): [mean: Tensor, variance: Tensor] {
  return norm.group_moments!(x, sizes, false) as [Tensor, Tensor];
}

/** Σ g and Σ g·(x − mean) of each group, without gradients; for the batch as one, or each sample for itself. */
export function groupSums(
  gradient: Tensor,
  x: Tensor,
  mean: Tensor,
  sizes: GroupSizes,
): [sum: Tensor, product: Tensor] {
  return norm.group_sums!(gradient, x, mean, sizes) as [Tensor, Tensor];
}

/** g·a + x·b + c, without gradients; for the batch as one, or each sample for itself. */
export function groupCombine(
  gradient: Tensor,
  x: Tensor,
  coefficients: readonly [a: Tensor, b: Tensor, c: Tensor],
  sizes: GroupSizes,
): Tensor {
  return norm.group_combine!(gradient, x, ...coefficients, sizes) as Tensor;
}

/** Counts batches that were normalised: `tracked`, int64 without dimensions, moves by `batches`. */
export function countBatches(tracked: Tensor, batches: number): void {
  norm.count_batches!(tracked, batches);
}

/** Counts a batch and gives its weight in running statistics: the momentum, or where that is null 1 / the batches so far. */
export function countBatch(tracked: Tensor, momentum: number | null): number {
  countBatches(tracked, 1);
  return momentum ?? 1 / tracked.itemSync();
}

/** Running statistics of a layer, [C]. */
export interface RunningStatistics {
  readonly runningMean: Tensor | null;
  readonly runningVar: Tensor | null;
}

/** A batch's mean and variance, [C], and what makes of its variance the one to remember, 1 by default. */
export interface BatchStatistics {
  mean: Tensor;
  variance: Tensor;
  factor?: number;
}

/** running ← (1 − momentum)·running + momentum·the batch's. Without gradients; nothing where nothing is tracked. */
export function moveStatistics(running: RunningStatistics, batch: BatchStatistics, momentum: number): void {
  const { runningMean, runningVar } = running;
  if (runningMean === null || runningVar === null) return;
  const { mean, variance, factor = 1 } = batch;
  norm.move_statistics!(runningMean, runningVar, mean, variance, factor, momentum);
}

/** What {@link groupedBatchNorm} takes besides the input. */
export interface GroupedBatch {
  weight: Tensor | null;
  bias: Tensor | null;
  sizes: GroupSizes;
  /** Whether sample i belongs to group i mod their number; sizes are then equal. */
  interleaved: boolean;
  eps: number;
  /** Statistics that move: running ← keep·running + Σ_g weights_g · those of group g, the variance unbiased. */
  running: { mean: Tensor; variance: Tensor; keep: number; weights: readonly number[] } | null;
}

/** y = (x − μ_g) / √(σ²_g + eps) · γ + β by the statistics of the group g that the sample belongs to. Twice differentiable. */
export function groupedBatchNorm(x: Tensor, batch: GroupedBatch): Tensor {
  const { weight, bias, sizes, interleaved, eps, running } = batch;
  const { mean = null, variance = null, keep = 0, weights = [] } = running ?? {};
  return norm.grouped_batch_norm!(x, weight, bias, mean, variance, sizes, interleaved, keep, weights, eps) as Tensor;
}

/** The statistics that {@link normalizeBy} uses, and how they follow those of the samples they normalise. */
export interface BlendedStatistics {
  mean: Tensor;
  /** Biased. */
  variance: Tensor;
  /** The mean μ of these samples themselves; σ² is their biased variance. */
  ownMean: Tensor;
  /** w, with dmean = w·dμ and dvariance = w·dσ² + slope·dμ, as one number or each. Default: 1. */
  share?: Tensor;
  /** Default: 2·w·(μ − mean), where w weights mean squares. */
  slope?: Tensor;
  /** Constants r and d of y = (x̂·r + d)·γ + β, [C]. Default: 1 and 0. */
  correction?: { r: Tensor; d: Tensor };
}

/**
 * y = ((x − mean) / √(variance + eps) · r + d) · γ + β, for the batch as one, or each sample for itself. Differentiable once, in x, γ
 * and β.
 */
export function normalizeBy(
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  statistics: BlendedStatistics,
  sizes: GroupSizes,
  eps: number,
): Tensor {
  const { mean, variance, ownMean, share = null, slope = null, correction } = statistics;
  const { r = null, d = null } = correction ?? {};
  return norm.normalize_by!(x, weight, bias, mean, variance, ownMean, share, slope, r, d, sizes, eps) as Tensor;
}

/** A batch among the ones before it, for {@link blendWindow}. */
export interface StatisticsWindow {
  /** Of the batch, [C]; the variance is biased. */
  mean: Tensor;
  variance: Tensor;
  /** Of the batches before, [rows, C], newest first; and whether each counts, as 1 and 0. They move. */
  pastMeans: Tensor;
  pastVariances: Tensor;
  pastValid: Tensor;
  /** By how much μ and the mean square about the earlier μ have changed since, [rows, C]. */
  shift: { mean: Tensor; variance: Tensor } | null;
  /** How many batches there have been; this one will count if there were `burnIn`. */
  batches: Tensor;
  burnIn: number;
}

/**
 * The statistics of the batch and of those before it as one, each with the same weight, the share: mean = share·Σ μ_τ,
 * variance = share·Σ (σ²_τ + (μ_τ − mean)²). What counts is valid and has a variance ≥ 0 after its shift, in each channel for itself.
 * Then the batch becomes the newest of the earlier ones and the oldest is forgotten. Without gradients.
 */
export function blendWindow(window: StatisticsWindow): [mean: Tensor, variance: Tensor, share: Tensor] {
  const { mean, variance, pastMeans, pastVariances, pastValid, shift, batches, burnIn } = window;
  const shifts = [shift?.mean ?? null, shift?.variance ?? null];
  return norm.blend_window!(mean, variance, pastMeans, pastVariances, pastValid, ...shifts, batches, burnIn) as [
    Tensor,
    Tensor,
    Tensor,
  ];
}

/** Count, means and M2 of a part of a batch, [1 + 2C], float64; zeros for an empty one. */
export function statisticsRow(x: Tensor): Tensor {
  return norm.statistics_row!(x) as Tensor;
}

/** The count, the means [C] and the M2s [C] of a batch by the rows of its parts, [parts, 1 + 2C]; all float64. */
export function joinRows(rows: Tensor): [count: Tensor, mean: Tensor, m2: Tensor] {
  return norm.join_statistics!(rows) as [Tensor, Tensor, Tensor];
}

/** A batch whose parts lie in several processes. `count` is float64 without dimensions, the others are [C]. */
export interface JoinedBatch {
  count: Tensor;
  mean: Tensor;
  /** Biased. */
  variance: Tensor;
  /** 1 / √(variance + eps) */
  inverse: Tensor;
}

/** The batch of the parts that gave the rows, its statistics in `dtype`. Running statistics move by `momentum`, if there are any. */
export function joinBatch(
  rows: Tensor,
  { runningMean, runningVar }: RunningStatistics,
  { momentum, eps, dtype }: { momentum: number; eps: number; dtype: DType },
): JoinedBatch {
  const joined = norm.join_batch!(rows, runningMean, runningVar, momentum, eps, dtype) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const [count, mean, variance, inverse] = joined;
  return { count, mean, variance, inverse };
}

/** What the backward pass of a part needs of the joined batch: its statistics, and γ, or null without it. */
export interface JoinedScale extends Omit<JoinedBatch, 'variance'> {
  weight: Tensor | null;
}

/** Of a part, Σ g and Σ g·(x − mean) as one row [2C], float64, and with them dγ = Σ g·(x − mean)·inverse and dβ = Σ g. */
export function gradientRow(
  gradient: Tensor,
  x: Tensor,
  { weight, mean, inverse }: JoinedScale,
): [row: Tensor, dWeight: Tensor, dBias: Tensor] {
  return norm.gradient_row!(gradient, x, weight, mean, inverse) as [Tensor, Tensor, Tensor];
}

/** dx = γ·s·(g − m − (x − mean)·s²·n) of a part, with s = `inverse`, and m and n the means that `sums` of all parts' rows make. */
export function joinedGradient(
  gradient: Tensor,
  x: Tensor,
  { weight, mean, inverse, count }: JoinedScale,
  sums: Tensor,
): Tensor {
  return norm.joined_gradient!(gradient, x, weight, mean, inverse, count, sums) as Tensor;
}

/** What {@link uncenteredNorm} takes besides the input. */
export interface UncenteredSettings {
  weight: Tensor | null;
  bias: Tensor | null;
  eps: number;
  /** The batch as one, or each sample for itself. */
  sizes: GroupSizes;
  /** τ of max(y, τ), [C]. The gradient goes to it where y ≤ τ. */
  floor?: Tensor | null;
  /** Added to eps, [C]. */
  extraEps?: Tensor | null;
  /** A running mean square of the batch, [C], that moves by `momentum`. */
  running?: Tensor | null;
  momentum?: number;
}

/** y = x / √(mean(x²) + eps) · γ + β. Twice differentiable for the batch as one, once for each sample. */
export function uncenteredNorm(x: Tensor, settings: UncenteredSettings): Tensor {
  const { weight, bias, eps, sizes, floor = null, extraEps = null, running = null, momentum = 0 } = settings;
  return norm.uncentered_norm!(x, weight, bias, floor, extraEps, running, momentum, sizes, eps) as Tensor;
}

/** What {@link batchChannelNorm} takes besides the input. */
export interface BatchChannelSettings {
  weight: Tensor | null;
  bias: Tensor | null;
  channelWeight: Tensor | null;
  channelBias: Tensor | null;
  runningMean: Tensor;
  runningVar: Tensor;
  groups: number;
  /** Whether the first step uses the running statistics, after they have moved. */
  estimate: boolean;
  /** How far the running statistics move. */
  rate: number;
  eps: number;
}

/**
 * The training pass of batch-channel normalisation, on the CPU in float32, float64 or bfloat16. Differentiable once, in x and the four
 * parameters.
 */
export function batchChannelNorm(x: Tensor, settings: BatchChannelSettings): Tensor {
  const { weight, bias, channelWeight, channelBias, runningMean, runningVar, groups, estimate, rate, eps } = settings;
  return norm.batch_channel_norm!(
    x,
    weight,
    bias,
    channelWeight,
    channelBias,
    runningMean,
    runningVar,
    groups,
    estimate,
    rate,
    eps,
  ) as Tensor;
}
