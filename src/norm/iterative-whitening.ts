import { torch, type DType, type Tensor } from '../torch';
import { positiveInteger } from '../nn/checks';
import { plusProduct, product, Whitening, type Whitener, type WhiteningOptions } from './whitening';

/** What iterative whitening is made from. */
export interface IterativeWhiteningOptions extends WhiteningOptions {
  /** T: how many steps approach Σ^(−½). Default 5, as in the paper. */
  iterations?: number;
}

/**
 * Whitening by Newton's iteration (IterNorm): with Σ the covariance over the batch divided by the number of values plus eps · I and
 * S = Σ / tr Σ,
 *
 *     P₀ = I,   Pₖ₊₁ = ½ (3 Pₖ − Pₖ³ S),   W = P_T / √(tr Σ)
 *
 * which approaches Σ^(−½), the whitening that changes the channels least (ZCA). Directions of large variance arrive first; with few
 * steps those of small variance are left partly as they are, which keeps their noise down. Only matrix products: no decomposition, and
 * a batch with fewer values than channels is no error. More than some ten steps are of no use: rounding errors grow from step to step
 * where variances differ much.
 *
 * State, like the authors' of W itself and not of Σ, under names of ours: `runningMean` [C], `runningWhitening`
 * [groups, C / groups, C / groups] and `numBatchesTracked`. Defaults are the paper's: T = 5, eps 1e-5, momentum 0.1, and one group (the authors' code also has groups of
 * 64 channels and the like for wide layers, which cost less).
 *
 * In place of batch norm in convolutional networks, where decorrelated channels help, at several times its cost.
 *
 * Huang et al. 2019, Iterative Normalization: Beyond Standardization towards Efficient Whitening.
 */
export class IterativeWhitening extends Whitening {
  readonly iterations: number;
  /** [groups, features / groups, features / groups], or null if not tracked. Starts at the identity. */
  readonly runningWhitening: Tensor | null;

  constructor(options: IterativeWhiteningOptions) {
    const iterations = positiveInteger(options.iterations ?? 5, 'IterativeWhitening: iterations');
    super(options, (eps) => newtonWhitener(eps, iterations));
    this.iterations = iterations;
    this.runningWhitening = this.registerBuffer(
      'runningWhitening',
      this.trackRunningStats ? this.identities(options) : null,
    );
  }

  protected override leastValues(): number {
    return 2;
  }

  protected override followed({ matrices }: { matrices: Tensor }): readonly [Tensor, Tensor] {
    return [matrices, this.runningWhitening!];
  }

  protected override runningMatrices(_whitener: Whitener, dtype: DType): Tensor {
    return this.runningWhitening!.to({ dtype });
  }
}

function newtonWhitener(eps: number, iterations: number): Whitener {
  return {
    correction: 0,
    matrices(covariance) {
      const identity = torch.eye(covariance.sizeOf(-1), { dtype: covariance.dtype, device: covariance.device });
      const shifted = covariance.add(identity, { alpha: eps });
      const trace = shifted.diagonal(0, 1, 2).sum([1]).reshape([-1, 1, 1]);
      const scaled = shifted.div(trace);
      // P₁ = 1.5 I − 0.5 S takes no product.
      let p = scaled.mul(-0.5).add(identity, { alpha: 1.5 });
      const steps: Tensor[] = [];
      for (let step = 1; step < iterations; step++) {
        const cubed = product(product(p, p), p);
        steps.push(p, cubed);
        p = plusProduct(p, cubed, scaled, { beta: 1.5, alpha: -0.5 });
      }
      return { matrices: p.mul(trace.rsqrt()), saved: [scaled, trace, ...steps] };
    },
    gradient(byMatrices, matrices, saved) {
      const [scaled, trace, ...steps] = saved as [Tensor, Tensor, ...Tensor[]];
      const root = trace.rsqrt();
      let byStep = byMatrices.mul(root);
      let byScaled: Tensor | null = null;
      // All steps are polynomials of S, so they are symmetric and commute with it.
      for (let step = iterations - 2; step >= 0; step--) {
        const [p, cubed] = [steps[2 * step]!, steps[2 * step + 1]!];
        byScaled = byScaled === null ? product(cubed, byStep) : plusProduct(byScaled, cubed, byStep);
        const times = product(byStep, scaled);
        const right = product(times, p);
        const both = plusProduct(right, p, times);
        byStep = plusProduct(plusProduct(byStep, right, p, { beta: 1.5, alpha: -0.5 }), p, both, { alpha: -0.5 });
      }
      const bySteps = byScaled === null ? byStep : byScaled.add(byStep);
      const byS = bySteps.mul(-0.5);
      const inTrace = (product: Tensor): Tensor => product.sum([1, 2], true);
      const byTrace = inTrace(byMatrices.mul(matrices))
        .mul(-0.5)
        .sub(inTrace(byS.mul(scaled)))
        .div(trace);
      const identity = torch.eye(scaled.sizeOf(-1), { dtype: scaled.dtype, device: scaled.device });
      return byS.div(trace).add(identity.mul(byTrace));
    },
  };
}
