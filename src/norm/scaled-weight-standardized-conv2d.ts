import { scope, torch, type Tensor } from '../torch';
import { init, Parameter, type Conv2dOptions } from '../nn';
import { numberWithin } from '../nn/checks';
import { WeightStandardizedConv2d } from './weight-standardized-conv2d';

/** What a {@link ScaledWeightStandardizedConv2d} is made from. */
export interface ScaledWeightStandardizedConv2dOptions extends Conv2dOptions {
  /** The least that n σ² counts for. Default 1e-4, as in the authors' code. */
  eps?: number;
  /** γ, what makes up for the variance that the activation before the convolution takes: see `activationGain`. Default 1. */
  gamma?: number;
}

/**
 * Convolution by scaled standardised filters: y = conv(x, Ŵ) + b with Ŵ = γ · g · (W − μ) / √max(n σ², eps), where μ and σ²
 * are the mean and biased variance of the n weights of one output channel and g is a learnt gain a channel. An input of unit
 * variance and mean zero a channel, or γ times an activation of such, gives an output of unit variance and mean zero at the start.
 *
 * Shapes and options are those of `Conv2d`. State: `weight`, `bias` and `gain` [outChannels]. Weights start normal with variance
 * 1 / n, biases at 0 and gains at 1. The authors multiply the activation by γ and not the filters, which is the same and costs a
 * pass over the activations; timm, unlike the authors, adds eps to σ² (1e-6 by default).
 *
 * Use it in networks without normalisation layers: see `NFResidualEncoder`.
 *
 * Brock, De and Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets; Brock, De,
 * Smith and Simonyan 2021, High-Performance Large-Scale Image Recognition Without Normalization.
 */
export class ScaledWeightStandardizedConv2d extends WeightStandardizedConv2d {
  readonly gamma: number;
  /** g, [outChannels]. Starts at 1. */
  readonly gain: Parameter;

  /** @throws InvalidArgumentError if a filter has one weight only, or an option makes no sense */
  constructor(options: ScaledWeightStandardizedConv2dOptions) {
    const { eps = 1e-4, gamma = 1, device = 'cpu', dtype = 'float32', generator } = options;
    super({ ...options, eps, correction: 0 });
    this.gamma = numberWithin(0, Infinity, gamma, `${new.target.name}: gamma`);
    this.gain = new Parameter(torch.ones([this.outChannels], { device, dtype }));
    init.kaimingNormal_(this.weight, { nonlinearity: 'linear', generator });
    if (this.bias !== null) init.zeros_(this.bias);
  }

  override standardizedWeight(): Tensor {
    return scope(() => {
      const { centred, norm } = this.centredFilters();
      // √max(n σ², eps) = max(‖W − μ‖, √eps)
      const scale = this.gain.view([-1, 1, 1, 1]).div(norm.clampMin(Math.sqrt(this.eps)));
      return centred.mul(this.gamma === 1 ? scale : scale.mul(this.gamma));
    });
  }
}
