import {
  InvalidArgumentError,
  noGrad,
  scope,
  torch,
  type DType,
  type Device,
  type Generator,
  type Tensor,
} from '../torch';
import { Linear, Module, ModuleList } from '../nn';
import { numberWithin, positiveInteger } from '../nn/checks';
import { orthogonal_ } from './orthogonal';
import { UncenteredBatchNorm1d } from './uncentered-batch-norm1d';

/** What an {@link OrthogonalBatchNormMLP} is made from. */
export interface OrthogonalBatchNormMLPOptions {
  inFeatures: number;
  /** The width d of all hidden layers; the theory takes as many samples a batch. */
  hiddenFeatures: number;
  outFeatures: number;
  /** The number L of hidden layers. */
  depth: number;
  /** Default `'identity'`, for which the theory holds. */
  activation?: 'identity' | 'sin' | 'tanh';
  /**
   * k in the gain l^−k before the activation of the l-th layer. Default 0 for the identity, which undoes any gain one layer on, and
   * 0.4 for the others, as in the authors' experiments.
   */
  gainExponent?: number;
  /** Makes the normalisation layers. Default: {@link UncenteredBatchNorm1d} without scale and shift. */
  norm?: (features: number) => Module;
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
  /** Where the starting values come from. Default: the device's default generator. */
  generator?: Generator;
}

/**
 * A multi-layer perceptron with batch normalisation whose gradients do not explode with depth: [N, inFeatures] to [N, outFeatures] by
 *
 *     h_l = activation(l^−k · norm(h_(l−1) W_lᵀ)),   l = 1 … L,      and y = h_L W_(L+1)ᵀ
 *
 * where every W starts as a random orthogonal matrix, nothing has a bias, and norm divides each feature by its root mean square over
 * the batch without taking the mean away. With linear activations and a batch of d linearly independent samples, these become
 * orthogonal with depth ({@link isometryGap} falls to 0) while gradients stay bounded at any depth; with Gaussian weights they grow
 * exponentially. A batch smaller than d lets them grow slowly. With k > 0, activations that are nearly linear around 0 keep the
 * property in the authors' experiments.
 *
 * State: `layers.l.weight` and, where the norm has any, `norms.l.…`; `output.weight`.
 *
 * For studying depth, or as a very deep head. See what it does by `gradientNorms`.
 *
 * Meterez, Joudaki, Orabona, Immer, Rätsch and Daneshmand 2024, Towards Training Without Depth Limits: Batch Normalization Without
 * Gradient Explosion.
 */
export class OrthogonalBatchNormMLP extends Module {
  readonly layers: ModuleList<Linear>;
  readonly norms: ModuleList;
  readonly output: Linear;
  readonly activation: 'identity' | 'sin' | 'tanh';
  readonly gainExponent: number;

  /** @throws InvalidArgumentError if a number makes no sense */
  constructor(options: OrthogonalBatchNormMLPOptions) {
    super();
    const { inFeatures, hiddenFeatures, outFeatures, activation = 'identity' } = options;
    const { device = 'cpu', dtype = 'float32', generator } = options;
    const { norm = (features) => new UncenteredBatchNorm1d({ features, affine: false, device, dtype }) } = options;
    const depth = positiveInteger(options.depth, 'OrthogonalBatchNormMLP: depth');
    this.activation = activation;
    const exponent = options.gainExponent ?? (activation === 'identity' ? 0 : 0.4);
    this.gainExponent = numberWithin(0, Infinity, exponent, 'OrthogonalBatchNormMLP: gainExponent');
    const linear = (from: number, to: number) => {
      const layer = new Linear({ inFeatures: from, outFeatures: to, bias: false, device, dtype, generator });
      orthogonal_(layer.weight, { generator });
      return layer;
    };
    const widths = Array.from({ length: depth }, (_, index) => (index === 0 ? inFeatures : hiddenFeatures));
    this.layers = new ModuleList(widths.map((width) => linear(width, hiddenFeatures)));
    this.norms = new ModuleList(widths.map(() => norm(hiddenFeatures)));
    this.output = linear(hiddenFeatures, outFeatures);
  }

  /** @throws InvalidArgumentError unless `x` is [N, inFeatures] */
  override forward(x: Tensor): Tensor {
    if (x.ndim !== 2) {
      throw new InvalidArgumentError(`OrthogonalBatchNormMLP: expected [N, C], found shape [${x.shape.join(', ')}]`);
    }
    return scope(() => {
      let hidden = x;
      [...this.layers].forEach((layer, index) => {
        const normalized = this.norms.at(index).forward(layer.forward(hidden));
        const gain = (index + 1) ** -this.gainExponent;
        hidden = this.#activate(gain === 1 ? normalized : normalized.mul(gain));
      });
      return this.output.forward(hidden);
    });
  }

  #activate(x: Tensor): Tensor {
    if (this.activation === 'identity') return x;
    return this.activation === 'sin' ? x.sin() : x.tanh();
  }
}

/**
 * How far the rows of X [N, d] are from orthogonal rows of one length: log(mean λ) − mean(log λ), where λ are the eigenvalues of X Xᵀ.
 * 0 for such rows, infinite for linearly dependent ones (N > d always is).
 *
 * @returns float64, no dimensions
 * @throws InvalidArgumentError unless `x` has two dimensions
 */
export function isometryGap(x: Tensor): Tensor {
  if (x.ndim !== 2) throw new InvalidArgumentError(`isometryGap: expected [N, d], found shape [${x.shape.join(', ')}]`);
  return noGrad(() =>
    scope(() => {
      // From singular values: squaring X first would lose the small ones.
      const values = torch.linalgSvdvals(x.to({ dtype: 'float64' }));
      const logs = values.log().mul(2);
      const mean = values.square().sum().div(x.sizeOf(0)).log();
      return x.sizeOf(0) > x.sizeOf(1) ? mean.fullLike(Infinity) : mean.sub(logs.mean());
    }),
  );
}
