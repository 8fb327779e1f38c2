import { InvalidArgumentError, isTensor, keep, noGrad, scope, torch, type Tensor } from '../torch';
import { jsonObject, type JsonObject, type JsonValue, type StateDict, type Stateful } from '../torch/state';
import { Parameter } from '../nn';

/** Parameters that share options. What is left out comes from the optimiser's own options. */
export type ParameterGroup<Options> = { parameters: Iterable<Parameter> } & Partial<Options>;

/** A group as the optimiser holds it: every option filled in, and free to be changed between steps. */
export type OptimizerGroup<Options> = { readonly parameters: readonly Parameter[] } & Options;

/** One parameter in a step: real-valued tensors, all dense and with their elements in the same order in memory. */
export interface Update {
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  /** The tensors that the optimiser remembers, by name. */
  readonly state: Readonly<Record<string, Tensor>>;
  /** Whether the state was made in this step and holds no history. */
  readonly isFirst: boolean;
}

/** What an optimiser remembers of one parameter, by the name used in state dicts. */
type ParameterState = Record<string, Tensor>;

/**
 * The base of optimisers: groups, lazily made state, state dicts, and the sorting of parameters into lists that one fused
 * operator can update.
 *
 * LibTorch's fused CPU kernels walk raw memory and do not look at strides. A parameter whose gradient or state has its
 * elements in another order (a channels-last weight with a contiguous gradient, say) would be updated with the wrong
 * elements, silently; such parameters are updated on contiguous copies here.
 *
 * @typeParam Options the options of a group
 */
export abstract class Optimizer<Options extends object> implements Stateful {
  /** The groups; their options may be changed between steps, `lr` for example by a schedule. */
  readonly groups: OptimizerGroup<Options>[];

  readonly #state = new Map<Parameter, ParameterState>();

  /**
   * @param parameters parameters, or groups of them with options of their own
   * @param defaults the options of whatever a group does not set
   * @throws InvalidArgumentError if there are no parameters, one occurs twice, or an option makes no sense
   */
  constructor(parameters: Iterable<Parameter> | Iterable<ParameterGroup<Options>>, defaults: Options) {
    if (isTensor(parameters)) {
      throw new InvalidArgumentError(`${new.target.name}: give a list of parameters, [parameter], not one by itself`);
    }
    const given = [...(parameters as Iterable<Parameter | ParameterGroup<Options>>)];
    const plain = given.filter((item) => item instanceof Parameter);
    if (plain.length > 0 && plain.length < given.length) {
      throw new InvalidArgumentError(`${new.target.name}: give either parameters or groups of parameters, not both`);
    }
    const groups =
      plain.length > 0
        ? [{ parameters: plain } as unknown as ParameterGroup<Options>]
        : (given as ParameterGroup<Options>[]);
    const seen = new Set<Parameter>();
    this.groups = groups.map((group) => {
      const members = [...group.parameters];
      for (const parameter of members) {
        if (!(parameter instanceof Parameter)) {
          throw new InvalidArgumentError(
            `${new.target.name}: only a Parameter can be optimised, found ${typeof parameter}`,
          );
        }
        if (seen.has(parameter)) {
          throw new InvalidArgumentError(
            `${new.target.name}: a parameter of shape [${parameter.shape.join(', ')}] is given twice`,
          );
        }
        seen.add(parameter);
      }
      const options = Object.fromEntries(Object.entries(group).filter(([, value]) => value !== undefined));
      return { ...defaults, ...options, parameters: members };
    });
    if (seen.size === 0) throw new InvalidArgumentError(`${new.target.name}: there are no parameters to optimise`);
    for (const group of this.groups) this.check(group);
  }

  /** @throws InvalidArgumentError naming the option that makes no sense. */
  protected abstract check(options: Options): void;

  /** The names of the state that an option set needs; `'step'` is a counter, all others have the parameter's shape. */
  protected abstract stateNames(options: Options): readonly string[];

  /** Updates parameters of one device and dtype, under no-grad and within a scope. */
  protected abstract update(options: Options, updates: readonly Update[]): void;

  /**
   * Updates every parameter that has a gradient; the others, and their state, stay as they are.
   */
  step(): void {
    noGrad(() => {
      scope(() => {
        for (const group of this.groups) {
          this.check(group);
          this.#stepGroup(group);
        }
      });
    });
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const { parameters } of this.groups) {
      for (const parameter of parameters) parameter.grad = null;
    }
  }

  /**
   * What the optimiser remembers, as `<position of the parameter>.<name>`, and the options of the groups. Positions count
   * through all groups in order, as in PyTorch.
   */
  stateDict(): StateDict {
    const tensors = new Map<string, Tensor>();
    const groups: JsonValue[] = [];
    let position = 0;
    for (const { parameters, ...options } of this.groups) {
      const first = position;
      for (const parameter of parameters) {
        for (const [name, tensor] of Object.entries(this.#state.get(parameter) ?? {})) {
          tensors.set(`${position}.${name}`, tensor.detach());
        }
        position++;
      }
      groups.push({ ...(options as JsonObject), parameters: parameters.map((_, index) => first + index) });
    }
    return { tensors, values: { optimizer: this.constructor.name, groups } };
  }

  /** Takes over the remembered tensors and the options of the groups. */
  loadStateDict(state: StateDict): void {
    const groups = this.#checkedGroups(state.values);
    const parameters = this.groups.flatMap((group) => group.parameters.map((parameter) => ({ parameter, group })));
    const found = new Map<Parameter, Map<string, Tensor>>();
    for (const [path, tensor] of state.tensors) {
      const dot = path.indexOf('.');
      const member = parameters[Number(path.slice(0, dot))];
      const name = path.slice(dot + 1);
      if (dot < 1 || member === undefined) {
        throw new InvalidArgumentError(`${this.constructor.name}: unexpected tensor '${path}' in the state dict`);
      }
      const shape = name === 'step' ? [] : member.parameter.shape;
      if (tensor.shape.join() !== shape.join()) {
        throw new InvalidArgumentError(
          `${this.constructor.name}: '${path}' must have shape [${shape.join(', ')}], found [${tensor.shape.join(', ')}]`,
        );
      }
      const slots = found.get(member.parameter) ?? new Map<string, Tensor>();
      found.set(member.parameter, slots.set(name, tensor));
    }
    let position = 0;
    this.groups.forEach((group, index) => {
      const names = this.stateNames({ ...group, ...groups[index] } as Options);
      for (const parameter of group.parameters) {
        const slots = [...(found.get(parameter)?.keys() ?? [])];
        if (slots.length > 0 && (slots.length !== names.length || names.some((name) => !slots.includes(name)))) {
          throw new InvalidArgumentError(
            `${this.constructor.name}: parameter ${position} needs the state ${names.join(', ') || '(none)'}, found ${slots.join(', ')}`,
          );
        }
        position++;
      }
    });

    this.dispose();
    noGrad(() => {
      for (const [parameter, slots] of found) {
        const own: ParameterState = {};
        for (const [name, tensor] of slots) {
          own[name] = emptyState(parameter, name);
          own[name].copy_(tensor).dispose();
        }
        this.#state.set(parameter, own);
      }
    });
    this.groups.forEach((group, index) => Object.assign(group, groups[index]));
  }

  /** Frees what the optimiser remembers; the parameters stay. The next step starts without history. */
  dispose(): void {
    for (const state of this.#state.values()) Object.values(state).forEach((tensor) => tensor.dispose());
    this.#state.clear();
  }

  #stepGroup(group: OptimizerGroup<Options>): void {
    const names = this.stateNames(group);
    const lists = new Map<string, Update[]>();
    const copiedBack: { from: Tensor; to: Tensor }[] = [];
    for (const parameter of group.parameters) {
      const gradient = parameter.grad;
      if (gradient === null) continue;
      const { state, isFirst } = this.#stateOf(parameter, names);
      const shaped = names.filter((name) => name !== 'step');
      const aligned = sameOrder([parameter, gradient, ...shaped.map((name) => state[name]!)]);
      const working = (tensor: Tensor, written: boolean): Tensor => {
        if (aligned) return realView(tensor);
        const copy = tensor.clone({ memoryFormat: 'contiguous_format' });
        if (written) copiedBack.push({ from: copy, to: tensor });
        return realView(copy);
      };
      const update: Update = {
        parameter: working(parameter, true),
        gradient: working(gradient, false),
        state: Object.fromEntries(
          names.map((name) => [name, name === 'step' ? state[name]! : working(state[name]!, true)]),
        ),
        isFirst,
      };
      const key = `${parameter.device} ${parameter.dtype} ${isFirst}`;
      const list = lists.get(key);
      if (list === undefined) lists.set(key, [update]);
      else list.push(update);
    }
    for (const updates of lists.values()) this.update(group, updates);
    for (const { from, to } of copiedBack) to.copy_(from);
  }

  #stateOf(parameter: Parameter, names: readonly string[]): { state: ParameterState; isFirst: boolean } {
    const known = this.#state.get(parameter);
    if (known !== undefined && names.every((name) => name in known)) return { state: known, isFirst: false };
    const state: ParameterState = { ...known };
    for (const name of names) {
      if (name in state) continue;
      state[name] = emptyState(parameter, name);
      state[name].zero_();
    }
    if (names.length > 0) this.#state.set(parameter, state);
    return { state, isFirst: known === undefined };
  }

  #checkedGroups(values: JsonValue): JsonObject[] {
    const what = `${this.constructor.name}: the values of the state dict`;
    const { optimizer, groups } = jsonObject(values, what);
    if (optimizer !== this.constructor.name) {
      throw new InvalidArgumentError(`${what}: they belong to ${String(optimizer)}, not to ${this.constructor.name}`);
    }
    if (!Array.isArray(groups) || groups.length !== this.groups.length) {
      throw new InvalidArgumentError(
        `${what}: expected ${this.groups.length} groups, found ${Array.isArray(groups) ? groups.length : 'none'}`,
      );
    }
    return groups.map((saved, index) => {
      const group = this.groups[index]!;
      const { parameters, ...options } = jsonObject(saved, `${what}: group ${index}`);
      if (!Array.isArray(parameters) || parameters.length !== group.parameters.length) {
        throw new InvalidArgumentError(
          `${what}: group ${index} has ${group.parameters.length} parameters, found ${Array.isArray(parameters) ? parameters.length : 'none'}`,
        );
      }
      for (const [name, value] of Object.entries(group)) {
        if (name !== 'parameters' && typeof options[name] !== typeof value) {
          throw new InvalidArgumentError(
            `${what}: group ${index} needs a ${typeof value} '${name}', found ${JSON.stringify(options[name]) ?? 'nothing'}`,
          );
        }
      }
      this.check({ ...group, ...options });
      return options;
    });
  }
}

/** A tensor for the state `name` of a parameter, kept beyond the present scope, its elements not yet set. */
function emptyState(parameter: Parameter, name: string): Tensor {
  // The fused kernels read the number of steps as a float32 on the parameter's device.
  return keep(
    name === 'step'
      ? torch.empty([], { dtype: 'float32', device: parameter.device })
      : torch.emptyLike(parameter.detach()),
  );
}

/** Whether all tensors are dense and hold their elements in the same order. */
function sameOrder(tensors: readonly Tensor[]): boolean {
  return (
    tensors.every((tensor) => tensor.isContiguous()) ||
    (tensors[0]?.ndim === 4 && tensors.every((tensor) => tensor.isContiguous('channels_last')))
  );
}

/** A complex tensor as real and imaginary parts side by side: to these optimisers it is twice as many real numbers. */
function realView(tensor: Tensor): Tensor {
  return tensor.dtype.startsWith('complex') ? tensor.viewAsReal() : tensor;
}
