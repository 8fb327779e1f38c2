import { InvalidArgumentError, torch, type DType, type Device, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { checkFinite } from './batch-norm';
import { uncenteredNorm } from './operators';

/** What filter response normalisation is made from. */
export interface FilterResponseNormOptions {
  /** The number of channels C. */
  features: number;
  /** Added to the mean square. Default 1e-6. */
  eps?: number;
  /**
   * Whether to add |ε| with a learnt ε a channel that starts at 1e-4, for maps of one or few positions, where dividing by the root
   * of the mean square leaves little but the sign. Default false.
   */
  learnableEps?: boolean;
  /** Whether the thresholded linear unit max(y, τ) with a learnt τ a channel is part of the layer. Default true. */
  threshold?: boolean;
  /** `'raise'` refuses NaN and infinity, which costs a pass over the input and a wait for the device. Default `'ignore'`. */
  nonFinite?: 'ignore' | 'raise';
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * Filter response normalisation with its thresholded linear unit: y = γ x / √(ν² + eps) + β and z = max(y, τ), where ν² is the mean
 * of x² over the positions of each channel of each sample, for x [N, C, …] of any floating-point dtype. Nothing is centred: τ
 * takes the place of the activation that would follow, so leave that out. No state beside the parameters; training and
 * evaluation are the same. Where y = τ the gradient goes to τ. There are no gradients of gradients.
 *
 * In place of batch norm and ReLU in convolutional networks for batches of any size.
 *
 * Singh and Krishnan 2020, Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural
 * Networks. That the learnt ε enters by its absolute value beside 1e-6 and starts at 1e-4 is from memory.
 */
export class FilterResponseNorm extends Module {
  readonly features: number;
  readonly eps: number;
  readonly nonFinite: 'ignore' | 'raise';
  /** γ, [features]. Starts at 1. */
  readonly weight: Parameter;
  /** β, [features]. Starts at 0. */
  readonly bias: Parameter;
  /** τ, [features], or null without `threshold`. Starts at 0. */
  readonly threshold: Parameter | null;
  /** ε, [features], or null without `learnableEps`. Starts at 1e-4. */
  readonly learnedEps: Parameter | null;

  constructor(options: FilterResponseNormOptions) {
    super();
    const { features, eps = 1e-6, learnableEps = false, threshold = true, nonFinite = 'ignore' } = options;
    const { device = 'cpu', dtype = 'float32' } = options;
    const layer = new.target.name;
    this.features = positiveInteger(features, `${layer}: features`);
    this.eps = numberWithin(0, Infinity, eps, `${layer}: eps`);
    this.nonFinite = nonFinite;
    const filled = (value: number) => new Parameter(torch.full([features], value, { device, dtype }));
    this.weight = filled(1);
    this.bias = filled(0);
    this.threshold = threshold ? filled(0) : null;
    this.learnedEps = learnableEps ? filled(1e-4) : null;
  }

  /** @throws InvalidArgumentError if the shape does not fit, or `x` holds NaN or infinity and that is to be refused */
  override forward(x: Tensor): Tensor {
    const { shape } = x;
    if (shape.length < 2 || shape[1] !== this.features) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, ${this.features}, …], found an input of shape [${shape.join(', ')}]`,
      );
    }
    if (this.nonFinite === 'raise') checkFinite(x, this.constructor.name);
    const { weight, bias, eps, threshold: floor, learnedEps } = this;
    return uncenteredNorm(x, { weight, bias, eps, sizes: [], floor, extraEps: learnedEps?.abs() ?? null });
  }
}
