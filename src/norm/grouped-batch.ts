/** Batch normalisation of a batch in groups of samples, each by its own statistics: the core of split and ghost batch norm. */
import { defineFunction, isGradEnabled, noGrad, ops, scope, torch, type Tensor } from '../torch';
import { alongChannels, inKernelFormat, kernelFormat } from './by-statistics';

/**
 * Which samples make a group: `'neighbours'` takes consecutive ones; `'interleaved'` puts samples i, i + s, i + 2s, … into group i
 * of s.
 */
export type Grouping = 'neighbours' | 'interleaved';

/** The statistics of each group: mean and unbiased variance, [groups, features] each. */
export interface GroupStatistics {
  means: Tensor;
  variances: Tensor;
}

/** What {@link normalizeGroups} takes besides the input. */
export interface GroupedBatch {
  weight: Tensor | null;
  bias: Tensor | null;
  /** Samples a group, in the order of the batch; all equal where groups are interleaved. */
  sizes: readonly number[];
  grouping: Grouping;
  eps: number;
  /** Filled with the groups' statistics, if given; must hold zeros. */
  statistics: GroupStatistics | null;
}

interface Saved {
  sizes: readonly number[];
  eps: number;
}

type Mask = [input: boolean, weight: boolean, bias: boolean];

const batchNormInto = ops.aten!.native_batch_norm!.out!;
const batchNormBackward = ops.aten!.native_batch_norm_backward! as unknown as (
  ...args: unknown[]
) => [input: Tensor, weight: Tensor | null, bias: Tensor | null];

// Each group's result is written into its place in one output, so that nothing is copied together afterwards.
const normalizeNeighbours = defineFunction<
  [Tensor, Tensor | null, Tensor | null, readonly number[], number, GroupStatistics | null],
  Tensor,
  Saved
>({
  name: 'groupedBatchNorm',
  forward(context, x, weight, bias, sizes, eps, statistics) {
    const output = torch.emptyLike(x);
    const features = x.sizeOf(1);
    // LibTorch keeps the statistics of a short type in float32 where the parameters are longer.
    const dtype = x.dtype === (weight ?? statistics?.means ?? x).dtype ? x.dtype : 'float32';
    const kept = torch.empty([2, sizes.length, features], { device: x.device, dtype });
    const [means, inverses] = kept.unbind().map((rows) => rows.unbind()) as [Tensor[], Tensor[]];
    const [runningMeans, runningVars] = [statistics?.means.unbind(), statistics?.variances.unbind()];
    const outputs = output.split([...sizes]);
    x.split([...sizes]).forEach((group, i) => {
      const running = [runningMeans?.[i] ?? null, runningVars?.[i] ?? null];
      const places = { out: outputs[i], save_mean: means[i], save_invstd: inverses[i] };
      batchNormInto(group, weight, bias, ...running, true, 1, eps, places);
    });
    context.save(x, kept, ...(weight === null ? [] : [weight]));
    context.state = { sizes, eps };
    return output;
  },
  backward(context, gradient) {
    const [x, kept, weight = null] = context.saved as [Tensor, Tensor, Tensor?];
    const { eps } = context.state;
    const sizes = [...context.state.sizes];
    const mask = context.needsGradient.slice(0, 3) as Mask;
    const [means, inverses] = kept.unbind() as [Tensor, Tensor];
    const [ofMeans, ofInverses] = [means.unbind(), inverses.unbind()];
    const dense = gradient.contiguous({ memoryFormat: kernelFormat(x) });
    const [groups, gradients] = [x.split(sizes), dense.split(sizes)];
    const groupBackward = (i: number, wanted: Mask) =>
      batchNormBackward(gradients[i], groups[i], weight, null, null, ofMeans[i], ofInverses[i], true, eps, wanted);
    const indices = sizes.map((_, i) => i);
    // A pass that is itself recorded is made of operators that autograd knows; short coefficients would lose too much.
    if (!mask[0] || isGradEnabled() || kept.dtype === 'bfloat16' || kept.dtype === 'float16') {
      const found = indices.map((i) => groupBackward(i, mask));
      const total = (which: 1 | 2): Tensor | null =>
        mask[which] ? torch.stack(found.map((group) => group[which]!)).sum([0]) : null;
      return [mask[0] ? torch.cat(found.map(([dx]) => dx)) : null, total(1), total(2)];
    }
    // ∂x = g·a + x·b + c with a, b and c constant in a group and channel: written in place, where pieces would have to be joined.
    const found = indices.map((i) => groupBackward(i, [false, true, true]));
    const [products, sums] = [
      torch.stack(found.map((group) => group[1]!)),
      torch.stack(found.map((group) => group[2]!)),
    ];
    const counts = torch
      .tensor(
        sizes.map((size) => (-size * x.numel()) / x.sizeOf(0) / x.sizeOf(1)),
        {
          device: x.device,
          dtype: kept.dtype,
        },
      )
      .unsqueeze(1);
    const a = weight === null ? inverses : inverses.mul(weight);
    const b = a.mul(inverses).mul(products).div(counts);
    const c = a.mul(sums).div(counts).sub(b.mul(means));
    const [ofA, ofB, ofC] = [a.unbind(), b.unbind(), c.unbind()];
    const [zero, one, none] = [torch.zerosLike(ofB[0]!), torch.onesLike(ofB[0]!), kept.newEmpty([0])];
    const gradX = torch.emptyLike(x);
    gradX.split(sizes).forEach((place, i) => {
      const places = { out: place, save_mean: none, save_invstd: none };
      batchNormInto(groups[i], ofB[i], ofC[i], zero, one, false, 0, 0, places);
      place.addcmul_(gradients[i]!, alongChannels(ofA[i]!, x));
    });
    return [gradX, mask[1] ? products.sum([0]) : null, mask[2] ? sums.sum([0]) : null];
  },
});

/**
 * y = (x − μ_g) / √(σ²_g + eps) · γ + β, where μ_g and σ²_g are the mean and the biased variance, a channel, of the group g that
 * the sample belongs to.
 *
 * Interleaved groups of a contiguous batch are normalised in one call, at the price of plain batch normalisation; in channels-last
 * memory they are made neighbours, which copies the batch twice.
 *
 * @param x [N, C, …]; its memory format is kept
 */
export function normalizeGroups(x: Tensor, batch: GroupedBatch): Tensor {
  const { weight, bias, sizes, grouping, eps, statistics } = batch;
  const dense = inKernelFormat(x);
  if (grouping === 'neighbours') return normalizeNeighbours(dense, weight, bias, sizes, eps, statistics);
  const groups = sizes.length;
  return scope(() => {
    if (!dense.isContiguous()) {
      const neighbours = reordered(dense, [sizes[0]!, groups]);
      const y = normalizeNeighbours(neighbours, weight, bias, sizes, eps, statistics);
      return reordered(y, [groups, sizes[0]!]);
    }
    return torch
      .batchNorm(
        dense.view([sizes[0]!, groups * x.sizeOf(1), ...x.shape.slice(2)]),
        weight?.repeat([groups]) ?? null,
        bias?.repeat([groups]) ?? null,
        statistics?.means.view([-1]) ?? null,
        statistics?.variances.view([-1]) ?? null,
        true,
        1,
        eps,
        true,
      )
      .view([...x.shape]);
  });
}

/** Samples in rows and columns of `grid`, read column by column; for channels-last memory, which is kept. */
function reordered(x: Tensor, grid: [number, number]): Tensor {
  return x.movedim(1, -1).unflatten(0, grid).transpose(0, 1).flatten(0, 1).movedim(-1, 1);
}

/** Room for the statistics of `groups` groups, laid out as the running ones. */
export function groupStatistics(groups: number, runningMean: Tensor, runningVar: Tensor): GroupStatistics {
  return noGrad(() => ({
    means: runningMean.newZeros([groups, runningMean.sizeOf(0)]),
    variances: runningVar.newZeros([groups, runningVar.sizeOf(0)]),
  }));
}

/** running ← keep · running + Σ_g weights_g · rows_g, in place. */
export function moveRunning(running: Tensor, rows: Tensor, keep: number, weights: readonly number[]): void {
  noGrad(() => {
    const factors = torch.tensor([...weights], { device: rows.device, dtype: rows.dtype });
    running.addmv_(rows.t(), factors, { beta: keep });
  });
}
