import { InvalidArgumentError, ops } from '../torch';
import type { Parameter } from '../nn';
import { numberWithin } from '../nn/checks';
import { Optimizer, type ParameterGroup, type Update } from './optimizer';

/** The options of {@link SGD}, for all parameters or for one group. */
export interface SGDOptions {
  /** The learning rate γ. Default 1e-3. */
  lr: number;
  /** μ: how much of the last direction is kept. Default 0. */
  momentum: number;
  /** τ: how much the gradient is damped when it enters the momentum. Default 0. */
  dampening: number;
  /** λ: the strength of the L2 penalty, added to the gradient. Default 0. */
  weightDecay: number;
  /** Whether to look ahead along the momentum (Nesterov). Needs momentum and no dampening. Default false. */
  nesterov: boolean;
  /** Whether to climb instead of to descend. Default false. */
  maximize: boolean;
}

/**
 * Stochastic gradient descent with momentum, by LibTorch's fused operator:
 *
 *     g ← ∇ + λ θ
 *     b ← μ b + (1 − τ) g      (b = g in a parameter's first step)
 *     θ ← θ − γ b              (Nesterov: θ − γ (g + μ b))
 *
 * as in PyTorch. A parameter without a gradient is left alone.
 */
export class SGD extends Optimizer<SGDOptions> {
  constructor(
    parameters: Iterable<Parameter> | Iterable<ParameterGroup<SGDOptions>>,
    options: Partial<SGDOptions> = {},
  ) {
    const { lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false, maximize = false } = options;
    super(parameters, { lr, momentum, dampening, weightDecay, nesterov, maximize });
  }

  protected override check(options: SGDOptions): void {
    numberWithin(0, Infinity, options.lr, 'SGD: lr');
    numberWithin(0, Infinity, options.momentum, 'SGD: momentum');
    numberWithin(0, Infinity, options.weightDecay, 'SGD: weightDecay');
    if (options.nesterov && (options.momentum === 0 || options.dampening !== 0)) {
      throw new InvalidArgumentError(
        `SGD: nesterov needs a momentum above 0 and no dampening, found momentum ${options.momentum}, dampening ${options.dampening}`,
      );
    }
  }

  protected override stateNames(options: SGDOptions): readonly string[] {
    return options.momentum === 0 ? [] : ['momentum_buffer'];
  }

  protected override update(options: SGDOptions, updates: readonly Update[]): void {
    const { lr, momentum, dampening, weightDecay, nesterov, maximize } = options;
    ops.aten._fused_sgd_(
      updates.map((update) => update.parameter),
      updates.map((update) => update.gradient),
      momentum === 0 ? [] : updates.map((update) => update.state.momentum_buffer!),
      { weightDecay, momentum, lr, dampening, nesterov, maximize, isFirstStep: updates[0]!.isFirst },
    );
  }
}
