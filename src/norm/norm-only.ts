/** Which parameters belong to norms: for training nothing else, and for keeping weight decay away from them. */
import { InvalidArgumentError, type Generator } from '../torch';
import { init, Module, type AnyModule, type Parameter } from '../nn';

/**
 * Whether a module is a normalisation layer: it, or a class that it extends, has a name that ends in Norm, Renorm, Whitening or Tns,
 * with 1d, 2d or 3d behind it or not. All of kontrast's layers do; name your own likewise.
 */
export function isNorm(module: AnyModule): boolean {
  let made: object | null = Object.getPrototypeOf(module) as object | null;
  while (made !== null && made !== Module.prototype) {
    if (/(?:[Nn]orm|Whitening|Tns)(?:[123]d)?$/.test(made.constructor.name)) return true;
    made = Object.getPrototypeOf(made) as object | null;
  }
  return false;
}

/** The scales and shifts of all norms of a model, by dotted path. One that several norms share is given once. */
export function normParameters(model: AnyModule): Map<string, Parameter> {
  const found = new Set<Parameter>();
  for (const module of model.modules()) {
    if (isNorm(module)) for (const parameter of module.parameters()) found.add(parameter);
  }
  return new Map([...model.namedParameters()].filter(([, parameter]) => found.has(parameter)));
}

/** How {@link trainNormsOnly} freezes. */
export interface TrainNormsOnlyOptions {
  /** Modules that stay trainable besides, such as the last layer. Default: none. */
  also?: readonly AnyModule[];
  /**
   * `'uniform'` draws every γ from [0, 1) and sets every β to 0, as the paper does; `'keep'` (default) leaves them, mostly γ = 1, β = 0.
   */
  start?: 'uniform' | 'keep';
  /** Where the values of `'uniform'` come from. Default: the default generator of the parameters' device. */
  generator?: Generator;
}

/**
 * Freezes every parameter of a model but the norms' scales and shifts, and gives those that are left to an optimiser:
 *
 * ```ts
 * const optimizer = new SGD(trainNormsOnly(model, { also: [model.classifier] }), { lr: 0.1, momentum: 0.9 });
 * ```
 *
 * Frozen parameters get no gradient, so the backward pass saves their part. The running statistics go on moving in training mode. The paper
 * keeps the random starting values of the convolutions (Kaiming normal) and draws γ from [0, 1), which `start: 'uniform'` does too; that
 * matters most where γ decides which random features are used at all. Undo it with `model.requiresGrad_()`.
 *
 * To learn how much random features alone can express, or to adapt a trained model by few numbers.
 *
 * @returns the trainable parameters, each once, in the order of the model
 * @throws InvalidArgumentError if the model has no norm with a scale or shift, or `also` names a module that is not in it, before anything
 * changes
 *
 * Frankle, Schwab and Morcos 2021, Training BatchNorm and Only BatchNorm: On the Expressive Power of Random Features in CNNs.
 */
export function trainNormsOnly(model: AnyModule, options: TrainNormsOnlyOptions = {}): Parameter[] {
  const { also = [], start = 'keep', generator } = options;
  const norms = normParameters(model);
  if (norms.size === 0) {
    throw new InvalidArgumentError(
      `trainNormsOnly: ${model.constructor.name} has no norm with a scale or a shift to train`,
    );
  }
  const modules = new Set(model.modules());
  const stranger = also.find((module) => !modules.has(module));
  if (stranger !== undefined) {
    throw new InvalidArgumentError(
      `trainNormsOnly: also names a ${stranger.constructor.name} that is not part of the model`,
    );
  }
  const trained = new Set([...norms.values(), ...also.flatMap((module) => module.parameters())]);
  for (const parameter of model.parameters()) {
    parameter.requiresGrad_(trained.has(parameter));
    if (!trained.has(parameter)) parameter.grad = null;
  }
  if (start === 'uniform') {
    for (const [path, parameter] of norms) {
      if (path.split('.').at(-1) === 'weight') init.uniform_(parameter, 0, 1, { generator });
      else init.zeros_(parameter);
    }
  }
  return model.parameters().filter((parameter) => trained.has(parameter));
}

/** Parameters that share a weight decay, as optimisers take them. */
export interface DecayGroup {
  parameters: Parameter[];
  weightDecay: number;
}

/**
 * The trainable parameters of a model in two groups for an optimiser: the norms' scales and shifts without weight decay, which would pull
 * scales to zero for no gain (the layer after a norm can undo them), and all others with it.
 *
 * ```ts
 * const optimizer = new AdamW(decayGroups(model, { weightDecay: 1e-4 }), { lr: 1e-3 });
 * ```
 *
 * @param options `weightDecay`: that of the others; `biases` (default false): whether biases of other layers decay too
 * @returns first the group with decay, then the one without; one that would be empty is left out
 */
export function decayGroups(model: AnyModule, options: { weightDecay: number; biases?: boolean }): DecayGroup[] {
  const { weightDecay, biases = false } = options;
  const norms = new Set(normParameters(model).values());
  const named = [...model.namedParameters()].filter(([, parameter]) => parameter.requiresGrad);
  const spared = ([path, parameter]: [string, Parameter]): boolean =>
    norms.has(parameter) || (!biases && path.split('.').at(-1) === 'bias');
  const only = (wanted: boolean): Parameter[] =>
    named.filter((entry) => spared(entry) === wanted).map(([, parameter]) => parameter);
  return [
    { parameters: only(false), weightDecay },
    { parameters: only(true), weightDecay: 0 },
  ].filter(({ parameters }) => parameters.length > 0);
}
