import { InvalidArgumentError, scope, torch, type Tensor } from '../torch';
import { Conv2d, Module, type Conv2dOptions } from '../nn';
import { BatchNorm } from './batch-norm';
import { BatchNorm2d } from './batch-norm2d';
import { effectiveWeight, foldedLayer } from './folded-layer';

/** How a {@link ConvBN2d} computes. */
export type ConvBNMode = 'train' | 'eval' | 'tune' | 'deploy';

/** What a new {@link ConvBN2d} is made from: a convolution's options and a norm's. */
export interface ConvBN2dOptions extends Conv2dOptions {
  /** Whether the convolution has a bias, which the norm takes away again in training. Default false. */
  bias?: boolean;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** The weight of the newest batch in the running statistics, or null for the plain mean. Default 0.1. */
  momentum?: number | null;
  /** What to do in training mode. Default `'train'`. */
  mode?: Exclude<ConvBNMode, 'deploy'>;
}

/** The parts of a {@link ConvBN2d} that exist already. */
export interface ConvBN2dParts {
  conv: Conv2d;
  /** Keeps running statistics of as many features as the convolution has channels. */
  bn: BatchNorm;
  /** What to do in training mode. Default `'train'`. */
  mode?: Exclude<ConvBNMode, 'deploy'>;
}

/**
 * A convolution and the batch normalisation after it as one block, [N, inChannels, H, W] to [N, outChannels, H', W'], which can
 * leave out what lies between them. With s = γ / √(σ² + eps), it gives in mode
 *
 * - `'train'`: bn(conv(x)) by the batch's statistics, which the running ones follow;
 * - `'eval'`: (conv(x) − μ) s + β by the running statistics, which stay;
 * - `'tune'`: conv(x; w s, β + s (b − μ)), the same function by one convolution whose weights are made in each pass. Gradients flow to w,
 *   b, γ and β as in `'eval'`; the convolution's own output is never made, so a pass keeps half as much;
 * - `'deploy'`: conv(x; w', b') with the folded weights as plain parameters; there is no way back.
 *
 * {@link ConvBN2d.setMode} says which of the first three is meant in training mode; in evaluation mode it is always `'eval'`. State:
 * `conv.weight`, `conv.bias`, `bn.weight` … as the two have them; deployed, `conv.weight` and `conv.bias`.
 *
 * Tune mode is for fine-tuning with frozen statistics (small batches, detection, attacks), where it is as stable as `'eval'` and
 * nearly as cheap as `'deploy'`.
 *
 * You, Qin, Bao, Cao, Huang, Shan and Long 2024, Efficient ConvBN Blocks for Transfer Learning and Beyond.
 */
export class ConvBN2d extends Module {
  conv: Conv2d;
  /** Null once deployed. */
  bn: BatchNorm | null;
  #trainingMode: Exclude<ConvBNMode, 'deploy'> = 'train';

  /** @throws InvalidArgumentError if the parts do not fit, or an option makes no sense */
  constructor(options: ConvBN2dOptions | ConvBN2dParts) {
    super();
    if ('conv' in options) {
      this.conv = options.conv;
      this.bn = options.bn;
    } else {
      const { outChannels, bias = false, eps, momentum, device, dtype } = options;
      this.conv = new Conv2d({ ...options, bias });
      this.bn = new BatchNorm2d({ features: outChannels, eps, momentum, device, dtype });
    }
    const { conv, bn } = this;
    if (bn.features !== conv.outChannels) {
      throw new InvalidArgumentError(
        `ConvBN2d: the norm has ${bn.features} features, but the convolution gives ${conv.outChannels} channels`,
      );
    }
    if (bn.runningMean === null) {
      throw new InvalidArgumentError(
        'ConvBN2d: the norm keeps no running statistics, which every mode but train needs',
      );
    }
    this.training = conv.training;
    this.setMode(options.mode ?? 'train');
  }

  /** What the next forward pass does. */
  get mode(): ConvBNMode {
    if (this.bn === null) return 'deploy';
    return this.training ? this.#trainingMode : 'eval';
  }

  /**
   * Says what training mode means; `'deploy'` folds the norm into the convolution for good.
   *
   * @throws InvalidArgumentError for another mode than `'deploy'` once deployed
   */
  setMode(mode: ConvBNMode): this {
    if (!['train', 'eval', 'tune', 'deploy'].includes(mode)) {
      throw new InvalidArgumentError(`ConvBN2d: mode must be train, eval, tune or deploy; found ${String(mode)}`);
    }
    if (mode === 'deploy') {
      if (this.bn === null) return this;
      this.conv = foldedLayer({ layer: this.conv, norm: this.bn }) as Conv2d;
      this.bn = null;
      return this;
    }
    if (this.bn === null) {
      throw new InvalidArgumentError(`ConvBN2d: this block is deployed, its norm is gone; it has no mode '${mode}'`);
    }
    this.#trainingMode = mode;
    return this;
  }

  override forward(x: Tensor): Tensor {
    const { conv, bn } = this;
    if (bn === null) return conv.forward(x);
    return scope(() => {
      switch (this.mode) {
        case 'train':
          return bn.forward(conv.forward(x));
        case 'tune':
          return this.#tune(x, bn);
        default: {
          const { weight, bias, runningMean, runningVar, eps } = bn;
          return torch.batchNorm(conv.forward(x), weight, bias, runningMean, runningVar, false, 0, eps, true);
        }
      }
    });
  }

  #tune(x: Tensor, bn: BatchNorm): Tensor {
    const { conv } = this;
    const { runningMean, runningVar } = bn;
    const reciprocal = runningVar!.add(bn.eps).rsqrt();
    const scale = bn.weight === null ? reciprocal : reciprocal.mul(bn.weight);
    const centre = conv.bias === null ? runningMean!.neg() : conv.bias.sub(runningMean!);
    const shift = bn.bias === null ? centre.mul(scale) : torch.addcmul(bn.bias, centre, scale);
    const weight = effectiveWeight(conv).mul(scale.view([-1, 1, 1, 1]));
    const { dtype } = conv.weight;
    const [w, b] = weight.dtype === dtype ? [weight, shift] : [weight.to({ dtype }), shift.to({ dtype })];
    return torch.conv2d(x, w, b, conv.stride, conv.padding, conv.dilation, conv.groups);
  }
}
