import { InvalidArgumentError, scope, torch, type Generator, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';
import { numberWithin } from '../nn/checks';
import { activationGain, activationOf, type NFActivation } from '../norm/activation-gain';
import { ScaledWeightStandardizedConv2d } from '../norm/scaled-weight-standardized-conv2d';

/** What an {@link NFBlock} is made from. */
export interface NFBlockOptions {
  inChannels: number;
  outChannels: number;
  /** Of the first convolution and of the shortcut. Default 1. */
  stride?: number;
  /** α: how much of the residual branch is added. Default 0.2. */
  alpha?: number;
  /** β: the standard deviation that the input is expected to have. Default 1. */
  beta?: number;
  /** Default `'relu'`. */
  activation?: NFActivation;
  /**
   * Whether the branch is also multiplied by a learnt number that starts at 0, so that the block starts as its shortcut (SkipInit,
   * De and Smith 2020). Default true.
   */
  skipInit?: boolean;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * A residual block without normalisation: h' = s(h) + α · g · f(h / β), with f of two 3×3 {@link ScaledWeightStandardizedConv2d}s,
 * each after an activation times its gain, and SkipInit's learnt g. Images [N, inChannels, H, W] to
 * [N, outChannels, H / stride, W / stride]. The shortcut s is the identity, or, where the shape changes, a 1×1 convolution of the
 * activated h / β, which brings the variance back to 1.
 *
 * As f keeps unit variance, with g = 1 the variance of h' is β² + α², or 1 + α² behind a convolved shortcut:
 * {@link NFBlock.expectedDeviation} is its root, the β of the next block. The factors γ and, for ReLU and its like, 1 / β are part of
 * the filters, so they cost no pass over the activations. (The authors' code divides by β behind the activation; for activations that
 * are not homogeneous this differs from their formula, which is followed here.)
 *
 * State: `conv1`, `conv2` and, where the shape changes, `shortcut`, each with `weight`, `bias` and `gain`; `skip_gain`.
 *
 * Brock, De and Smith 2021, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets.
 */
export class NFBlock extends Module {
  readonly conv1: ScaledWeightStandardizedConv2d;
  readonly conv2: ScaledWeightStandardizedConv2d;
  readonly shortcut: ScaledWeightStandardizedConv2d | null;
  /** g, no dimensions, or null without SkipInit. Starts at 0. */
  readonly skipGain: Parameter | null;
  readonly activation: NFActivation;
  readonly alpha: number;
  readonly beta: number;

  /** @throws InvalidArgumentError if an option makes no sense */
  constructor(options: NFBlockOptions) {
    super();
    const { inChannels, outChannels, stride = 1, activation = 'relu', skipInit = true, generator } = options;
    this.alpha = numberWithin(0, Infinity, options.alpha ?? 0.2, 'NFBlock: alpha');
    this.beta = numberWithin(0, Infinity, options.beta ?? 1, 'NFBlock: beta');
    if (this.beta === 0)
      throw new InvalidArgumentError('NFBlock: beta must be more than 0, for the input is divided by it');
    this.activation = activation;
    const gamma = activationGain(activation);
    const first = activationOf(activation).homogeneous === true ? gamma / this.beta : gamma;
    const conv = (from: number, kernelSize: number, by: number, scale: number) =>
      new ScaledWeightStandardizedConv2d({
        inChannels: from,
        outChannels,
        kernelSize,
        stride: by,
        padding: (kernelSize - 1) / 2,
        gamma: scale,
        generator,
      });
    this.conv1 = conv(inChannels, 3, stride, first);
    this.conv2 = conv(outChannels, 3, 1, gamma);
    const changesShape = stride !== 1 || inChannels !== outChannels;
    this.shortcut = changesShape ? conv(inChannels, 1, stride, first) : null;
    this.skipGain = skipInit ? new Parameter(torch.zeros([])) : null;
  }

  /** The standard deviation expected of the output when the branch is at full strength. */
  get expectedDeviation(): number {
    return Math.hypot(this.shortcut === null ? this.beta : 1, this.alpha);
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      const { apply, homogeneous = false } = activationOf(this.activation);
      const active = apply(homogeneous || this.beta === 1 ? x : x.div(this.beta));
      const branch = this.conv2.forward(apply(this.conv1.forward(active)));
      const kept = this.shortcut === null ? x : this.shortcut.forward(active);
      return this.skipGain === null
        ? kept.add(branch, { alpha: this.alpha })
        : kept.addcmul(branch, this.skipGain, { value: this.alpha });
    });
  }
}
