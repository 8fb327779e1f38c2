import { ops } from '../torch';
import type { Parameter } from '../nn';
import { numberWithin } from '../nn/checks';
import { Optimizer, type ParameterGroup, type Update } from './optimizer';

/** The options of {@link AdamW}, for all parameters or for one group. */
export interface AdamWOptions {
  /** The learning rate γ. Default 1e-3. */
  lr: number;
  /** β₁ and β₂: how slowly the averages of the gradient and of its square forget. Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** ε: what keeps the division finite. Default 1e-8. */
  eps: number;
  /** λ: how fast parameters shrink towards zero, apart from the gradient. Default 1e-2. */
  weightDecay: number;
  /** Whether to divide by the largest average of squares so far (Reddi et al. 2018). Default false. */
  amsgrad: boolean;
  /** Whether to climb instead of to descend. Default false. */
  maximize: boolean;
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019), by LibTorch's fused operator:
 *
 *     θ ← θ − γ λ θ
 *     m ← β₁ m + (1 − β₁) ∇,   v ← β₂ v + (1 − β₂) ∇²
 *     θ ← θ − γ · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)
 *
 * as in PyTorch. A parameter without a gradient is left alone, and its t does not advance.
 */
export class AdamW extends Optimizer<AdamWOptions> {
  constructor(
    parameters: Iterable<Parameter> | Iterable<ParameterGroup<AdamWOptions>>,
    options: Partial<AdamWOptions> = {},
  ) {
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 1e-2 } = options;
    const { amsgrad = false, maximize = false } = options;
    super(parameters, { lr, betas, eps, weightDecay, amsgrad, maximize });
  }

  protected override check(options: AdamWOptions): void {
    numberWithin(0, Infinity, options.lr, 'AdamW: lr');
    numberWithin(0, Infinity, options.eps, 'AdamW: eps');
    numberWithin(0, Infinity, options.weightDecay, 'AdamW: weightDecay');
    for (const index of [0, 1] as const) {
      numberWithin(0, 1 - Number.EPSILON, options.betas[index], `AdamW: betas[${index}]`);
    }
  }

  protected override stateNames(options: AdamWOptions): readonly string[] {
    const names = ['step', 'exp_avg', 'exp_avg_sq'];
    return options.amsgrad ? [...names, 'max_exp_avg_sq'] : names;
  }

  protected override update(options: AdamWOptions, updates: readonly Update[]): void {
    const { lr, betas, eps, weightDecay, amsgrad, maximize } = options;
    const state = (name: string) => updates.map((update) => update.state[name]!);
    const steps = state('step');
    ops.aten._foreach_add_.Scalar(steps, 1);
    ops.aten._fused_adamw_(
      updates.map((update) => update.parameter),
      updates.map((update) => update.gradient),
      state('exp_avg'),
      state('exp_avg_sq'),
      amsgrad ? state('max_exp_avg_sq') : [],
      steps,
      { lr, beta1: betas[0], beta2: betas[1], weightDecay, eps, amsgrad, maximize },
    );
  }
}
