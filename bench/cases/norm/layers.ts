/** What the case measures: our layers, and LibTorch's operators called directly. */
import { Conv2d } from '../../../src/nn';
import {
  BatchChannelNorm1d,
  BatchChannelNorm2d,
  BatchNorm1d,
  BatchNorm2d,
  BatchRenorm1d,
  BatchRenorm2d,
  CholeskyWhitening,
  ConvBN2d,
  CrossIterationBatchNorm,
  CrossMiniBatchNorm,
  DomainBatchNorm1d,
  DomainBatchNorm2d,
  FilterResponseNorm,
  GhostBatchNorm1d,
  GhostBatchNorm2d,
  GroupNorm,
  InstanceNorm2d,
  IterativeWhitening,
  LayerNorm,
  PowerNorm,
  RMSNorm,
  SplitBatchNorm1d,
  SplitBatchNorm2d,
  SyncBatchNorm,
  UnMixTns,
  UncenteredBatchNorm1d,
  standardizeBatchStyles,
} from '../../../src/norm';
import { torch, type Tensor } from '../../../src/torch';
import { settings, type LayerName } from './work';

/** A forward pass, and the parameters whose gradients it makes. */
export interface Work {
  forward(x: Tensor): Tensor;
  parameters: readonly Tensor[];
}

export type Make = (shape: readonly number[]) => Work;

interface Layer {
  forward(x: Tensor): Tensor;
  parameters(): Tensor[];
}

const layer = (make: (features: number, isImage: boolean, shape: readonly number[]) => Layer): Make => {
  return (shape) => {
    const made = make(shape[1]!, shape.length > 2, shape);
    return { forward: (x) => made.forward(x), parameters: made.parameters() };
  };
};

const { groups, splits, ghosts, window, microBatches, whiteningGroups, iterations, areaRatio, eps } = settings;

/** Renormalises from the first batch on. */
const ready = { plainBatches: 0, rampR: 0, rampD: 0 };
const whole = {
  allGather: (row: Tensor): Tensor => row.unsqueeze(0),
  allReduce: (values: Tensor): Tensor => values,
};

export const ourLayers: Record<LayerName, Make> = {
  BatchNorm: layer((features, isImage) => new (isImage ? BatchNorm2d : BatchNorm1d)({ features })),
  LayerNorm: layer((_features, _isImage, [, ...normalizedShape]) => new LayerNorm({ normalizedShape })),
  GroupNorm: layer((features) => new GroupNorm({ features, groups })),
  InstanceNorm: layer((features) => new InstanceNorm2d({ features, affine: true })),
  RMSNorm: layer((_features, _isImage, [, ...normalizedShape]) => new RMSNorm({ normalizedShape })),
  SplitBatchNorm: layer((features, isImage) => {
    return new (isImage ? SplitBatchNorm2d : SplitBatchNorm1d)({ features, splits });
  }),
  'SplitBatchNorm, interleaved': layer((features, isImage) => {
    return new (isImage ? SplitBatchNorm2d : SplitBatchNorm1d)({ features, splits, grouping: 'interleaved' });
  }),
  GhostBatchNorm: layer((features, isImage, [samples]) => {
    return new (isImage ? GhostBatchNorm2d : GhostBatchNorm1d)({ features, ghostSize: samples! / ghosts });
  }),
  BatchRenorm: layer((features, isImage) => {
    return new (isImage ? BatchRenorm2d : BatchRenorm1d)({ features, ...ready });
  }),
  CrossIterationBatchNorm: layer((features) => new CrossIterationBatchNorm({ features, window })),
  CrossMiniBatchNorm: layer((features) => new CrossMiniBatchNorm({ features, microBatches })),
  FilterResponseNorm: layer((features) => new FilterResponseNorm({ features })),
  BatchChannelNorm: layer((features, isImage) => {
    return new (isImage ? BatchChannelNorm2d : BatchChannelNorm1d)({ features, groups });
  }),
  UncenteredBatchNorm: layer((features) => new UncenteredBatchNorm1d({ features })),
  UnMixTns: layer((features) => new UnMixTns(new BatchNorm2d({ features }))),
  DomainBatchNorm: layer((features, isImage) => {
    return new (isImage ? DomainBatchNorm2d : DomainBatchNorm1d)({ features, domains: 2 });
  }),
  ConvBN2d: layer((features) => convolution(features, 'train')),
  'ConvBN2d, tune': layer((features) => convolution(features, 'tune')),
  BatchStyles: () => ({ forward: (x) => standardizeBatchStyles(x, { areaRatio }), parameters: [] }),
  SyncBatchNorm: layer((features) => new SyncBatchNorm({ features, exchange: whole })),
  CholeskyWhitening: layer((features) => new CholeskyWhitening({ features, groups: whiteningGroups })),
  IterativeWhitening: layer((features) => new IterativeWhitening({ features, groups: whiteningGroups, iterations })),
  PowerNorm: layer((features) => new PowerNorm({ features, warmUp: 0 })),
};

function convolution(features: number, mode: 'train' | 'tune'): ConvBN2d {
  return new ConvBN2d({ inChannels: features, outChannels: features, kernelSize: 1, mode });
}

const vector = (shape: readonly number[], value: number): Tensor => torch.full(shape, value).requiresGrad_(true);

/** Batch norm with running statistics, as a layer calls it. */
const batchNorm: Make = ([, features = 0]) => {
  const [weight, bias] = [vector([features], 1), vector([features], 0)];
  const [mean, variance] = [torch.zeros([features]), torch.ones([features])];
  return {
    forward: (x) => torch.batchNorm(x, weight, bias, mean, variance, true, 0.1, eps, true),
    parameters: [weight, bias],
  };
};

const convolutionAndBatchNorm: Make = (shape) => {
  const { weight } = new Conv2d({ inChannels: shape[1]!, outChannels: shape[1]!, kernelSize: 1, bias: false });
  const norm = batchNorm(shape);
  return {
    forward: (x) => norm.forward(torch.conv2d(x, weight)),
    parameters: [weight, ...norm.parameters],
  };
};

/** By LibTorch's operator for the same layer, else by its batch norm. */
export function directly(name: LayerName): Make {
  return operators[name] ?? batchNorm;
}

const operators: Partial<Record<LayerName, Make>> = {
  LayerNorm: ([, ...sizes]) => {
    const [weight, bias] = [vector(sizes, 1), vector(sizes, 0)];
    return { forward: (x) => torch.layerNorm(x, sizes, weight, bias, eps, true), parameters: [weight, bias] };
  },
  GroupNorm: ([, features = 0]) => {
    const [weight, bias] = [vector([features], 1), vector([features], 0)];
    return { forward: (x) => torch.groupNorm(x, groups, weight, bias, eps, true), parameters: [weight, bias] };
  },
  InstanceNorm: ([, features = 0]) => {
    const [weight, bias] = [vector([features], 1), vector([features], 0)];
    const forward = (x: Tensor): Tensor => torch.instanceNorm(x, weight, bias, null, null, true, 0.1, eps, true);
    return { forward, parameters: [weight, bias] };
  },
  RMSNorm: ([, ...sizes]) => {
    const weight = vector(sizes, 1);
    return { forward: (x) => torch.rmsNorm(x, sizes, weight, null), parameters: [weight] };
  },
  ConvBN2d: convolutionAndBatchNorm,
  'ConvBN2d, tune': convolutionAndBatchNorm,
};
