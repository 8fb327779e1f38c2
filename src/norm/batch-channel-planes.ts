/**
 * The training pass of batch-channel normalisation in as many passes over the activations as batch normalisation takes. Both of its
 * steps are affine in x for each plane (one channel of one sample), so the planes' means and variances tell everything else,
 * and the same holds for the sums that the backward pass needs.
 */
import { InvalidArgumentError, defineFunction, isGradEnabled, ops, torch, type Tensor } from '../torch';

/** Mean and biased variance of each plane, [N, C]. */
export interface PlaneMoments {
  mean: Tensor;
  variance: Tensor;
}

/** Beyond this many elements a sample, a call for each sample costs little beside its work. */
const leastSampleSize = 8192;

/** How planes are reached: as channels of one sample, or sample by sample; null where LibTorch's own operators are better. */
function layoutOf(x: Tensor): 'planes' | 'samples' | null {
  const [samples = 0, channels = 0] = x.shape;
  if (x.device !== 'cpu' || (x.dtype !== 'float32' && x.dtype !== 'float64')) return null;
  if (samples === 0 || x.numel() <= samples * channels) return null;
  if (x.isContiguous()) return 'planes';
  const isLarge = x.numel() / samples >= leastSampleSize;
  return x.ndim === 4 && isLarge && x.isContiguous('channels_last') ? 'samples' : null;
}

/** The moments of all planes in one pass, without gradients; null where this would not be quicker than other ways. */
export function planeMoments(x: Tensor): PlaneMoments | null {
  const layout = layoutOf(x);
  if (layout === null) return null;
  const [samples = 0, channels = 0] = x.shape;
  if (layout === 'planes') {
    // Group normalisation by planes finds their moments several times quicker than batch normalisation does. Without eps, its
    // 1 / σ is exact, and infinite for a constant plane.
    const area = x.numel() / samples / channels;
    const [, mean, reciprocal] = torch.nativeGroupNorm(x, null, null, samples, channels, area, channels, 0);
    return { mean, variance: reciprocal.square().reciprocal() };
  }
  const each = x.split(1).map((sample) => torch.batchNormUpdateStats(sample, null, null, 0));
  return { mean: torch.stack(each.map(([mean]) => mean)), variance: torch.stack(each.map(([, variance]) => variance)) };
}

/** Σ g and Σ g (x − mean) of each plane, [N, C]. */
function planeSums(gradient: Tensor, x: Tensor, mean: Tensor): [Tensor, Tensor] {
  const [samples = 0, channels = 0] = x.shape;
  const sums = (g: Tensor, values: Tensor, centre: Tensor) => {
    const one = torch.onesLike(centre);
    return ops.aten.native_batch_norm_backward(g, values, null, null, null, centre, one, true, 0, [
      false,
      true,
      true,
    ]) as [Tensor, Tensor, Tensor];
  };
  if (layoutOf(x) === 'planes') {
    const shape = [1, samples * channels, -1];
    const [, product, sum] = sums(gradient.reshape(shape), x.reshape(shape), mean.flatten());
    return [sum.view([samples, channels]), product.view([samples, channels])];
  }
  const means = mean.unbind();
  const xs = x.split(1);
  const each = gradient.split(1).map((part, index) => sums(part, xs[index]!, means[index]!));
  return [torch.stack(each.map(([, , sum]) => sum)), torch.stack(each.map(([, product]) => product))];
}

/** What the pass is told beside tensors. */
interface Settings {
  groups: number;
  eps: number;
  /** Whether mean and variance are the batch's own, so that gradients flow through them. */
  byBatch: boolean;
}

/** The affine maps of all planes and what they were made of; [N, C], or [1, C] where all samples share it. */
function affineOf(
  { groups, eps }: Settings,
  moments: PlaneMoments,
  mean: Tensor,
  variance: Tensor,
  parameters: readonly (Tensor | null)[],
) {
  const [weight, bias, channelWeight] = parameters;
  const [samples = 0, channels = 0] = moments.mean.shape;
  const shape = [samples, groups, channels / groups];
  /** The mean over the channels of a group, for each of its channels. */
  const byGroup = (values: Tensor) =>
    values.view(shape).mean([2], { keepdim: true }).expand(shape).reshape([samples, channels]);
  /** A value a group for each of its channels. */
  const spread = (values: Tensor) => values.unsqueeze(1).expand(shape.slice(1)).reshape([1, channels]);
  const reciprocal = variance.add(eps).rsqrt();
  const scale = weight == null ? reciprocal : reciprocal.mul(weight);
  const shift = mean.mul(scale).neg();
  const offset = bias == null ? shift : shift.add(bias);
  const level = torch.addcmul(offset, moments.mean, scale);
  const groupMean = byGroup(level);
  const centre = level.sub(groupMean);
  const groupVariance = byGroup(torch.addcmul(centre.square(), moments.variance, scale.square()));
  const groupReciprocal = groupVariance.add(eps).rsqrt();
  const gain = channelWeight == null ? groupReciprocal : groupReciprocal.mul(spread(channelWeight));
  return { byGroup, spread, reciprocal, scale, offset, groupMean, centre, groupReciprocal, gain };
}

function plane(values: Tensor, x: Tensor): Tensor {
  return values.view([...values.shape, ...x.shape.slice(2).map(() => 1)]);
}

/**
 * Batch-channel normalisation of x by the given mean and variance a channel, whose planes have the given moments. Differentiable
 * once, in x and the four parameters.
 */
export const normalizePlanes = defineFunction({
  name: 'batchChannelNorm',
  forward(
    context: { state: Settings & { present: boolean[] }; save: (...tensors: Tensor[]) => void },
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    channelWeight: Tensor | null,
    channelBias: Tensor | null,
    planeMean: Tensor,
    planeVariance: Tensor,
    mean: Tensor,
    variance: Tensor,
    settings: Settings,
  ): Tensor {
    const parameters = [weight, bias, channelWeight, channelBias];
    context.state = { ...settings, present: parameters.map((parameter) => parameter !== null) };
    context.save(x, planeMean, planeVariance, mean, variance, ...parameters.filter((parameter) => parameter !== null));
    const moments = { mean: planeMean, variance: planeVariance };
    const { spread, scale, offset, groupMean, gain } = affineOf(settings, moments, mean, variance, parameters);
    const shift = offset.sub(groupMean).mul(gain);
    return torch.addcmul(
      plane(channelBias === null ? shift : shift.add(spread(channelBias)), x),
      x,
      plane(scale.mul(gain), x),
    );
  },
  backward(context, gradient): (Tensor | null)[] {
    if (isGradEnabled()) {
      throw new InvalidArgumentError(
        'batch-channel normalisation has no second derivative in training mode; leave createGraph out, or use eval()',
      );
    }
    const { byBatch, present } = context.state;
    const [x, planeMean, planeVariance, mean, variance, ...given] = context.saved as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const left: Tensor[] = [...given];
    const parameters = present.map((is) => (is ? left.shift()! : null));
    const moments = { mean: planeMean, variance: planeVariance };
    const made = affineOf(context.state, moments, mean, variance, parameters);
    const { byGroup, reciprocal, scale, offset, groupMean, centre, groupReciprocal, gain } = made;
    const [samples = 0, channels = 0] = planeMean.shape;
    const area = x.numel() / samples / channels;
    const [sum, product] = planeSums(gradient, x, planeMean);
    // With ŷ the output of the second step before its own scale: Σ g ŷ, then its mean and that of g over each group.
    const inner = torch.addcmul(product.mul(scale), centre, sum).mul(groupReciprocal);
    const meanSum = byGroup(sum).div(area);
    const meanInner = byGroup(inner).div(area);
    const pull = meanInner.mul(groupReciprocal);
    // The gradient of the first step's output is gain (g − meanSum − ŷ meanInner): its sums over each plane, plain and times x̂.
    const ofPlane = sum.sub(meanSum.mul(area)).sub(pull.mul(centre).mul(area)).mul(gain);
    const distance = planeMean.sub(mean);
    const squares = planeVariance.mul(scale).add(centre.mul(distance)).mul(area);
    const ofScaled = torch
      .addcmul(product, distance, sum.sub(meanSum.mul(area)))
      .sub(pull.mul(squares))
      .mul(gain)
      .mul(reciprocal);
    const ofBias = ofPlane.sum([0]);
    const ofWeight = ofScaled.sum([0]);
    const factor = scale.mul(gain);
    let slope = factor.mul(pull).mul(scale).neg();
    let constant = factor.mul(torch.addcmul(meanSum, pull, offset.sub(groupMean))).neg();
    if (byBatch) {
      const share = scale.div(samples * area);
      const throughVariance = ofWeight.mul(reciprocal);
      slope = slope.sub(share.mul(throughVariance));
      constant = constant.sub(share.mul(ofBias.sub(throughVariance.mul(mean))));
    }
    const ofInput = torch.addcmul(plane(constant, x), x, plane(slope, x)).addcmul_(gradient, plane(factor, x));
    const perGroup = (values: Tensor) => values.view([samples, -1, channels / context.state.groups]).sum([0, 2]);
    const [hasWeight, hasBias, hasChannelWeight, hasChannelBias] = present;
    return [
      ofInput,
      hasWeight ? ofWeight : null,
      hasBias ? ofBias : null,
      hasChannelWeight ? perGroup(inner) : null,
      hasChannelBias ? perGroup(sum) : null,
    ];
  },
});
