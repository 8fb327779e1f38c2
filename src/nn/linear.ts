import { torch, type DType, type Device, type Generator, type Tensor } from '../torch';
import { positiveInteger } from './checks';
import { fans, kaimingUniform_, uniform_ } from './init';
import { Module } from './module';
import { Parameter } from './parameter';

/** What a {@link Linear} is made from. */
export interface LinearOptions {
  /** The size of an input vector. */
  inFeatures: number;
  /** The size of an output vector. */
  outFeatures: number;
  /** Whether to add a learnt bias. Default true. */
  bias?: boolean;
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
  /** Where the starting values come from. Default: the device's default generator. */
  generator?: Generator;
}

/**
 * y = x Wᵀ + b, for x [..., inFeatures]; y is [..., outFeatures].
 *
 * Weight and bias start uniform on ±1/√inFeatures, as in PyTorch.
 */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** [outFeatures, inFeatures]. */
  readonly weight: Parameter;
  /** [outFeatures], or null. */
  readonly bias: Parameter | null;

  constructor(options: LinearOptions) {
    super();
    const { inFeatures, outFeatures, bias = true, device = 'cpu', dtype = 'float32', generator } = options;
    this.inFeatures = positiveInteger(inFeatures, 'Linear: inFeatures');
    this.outFeatures = positiveInteger(outFeatures, 'Linear: outFeatures');
    this.weight = new Parameter(torch.empty([outFeatures, inFeatures], { device, dtype }));
    // A slope of √5 makes the Kaiming bound exactly 1/√fan-in.
    kaimingUniform_(this.weight, { slope: Math.sqrt(5), generator });
    this.bias = bias ? new Parameter(torch.empty([outFeatures], { device, dtype })) : null;
    if (this.bias !== null) {
      const bound = 1 / Math.sqrt(fans(this.weight).fanIn);
      uniform_(this.bias, -bound, bound, { generator });
    }
  }

  override forward(x: Tensor): Tensor {
    return torch.linear(x, this.weight, this.bias);
  }
}
