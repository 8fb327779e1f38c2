import { InvalidArgumentError, keep, noGrad, type Device, type DType, type MemoryFormat, type Tensor } from '../torch';
import { snakeCase } from '../torch/names';
import { dtypeNames } from '../torch/types';
import { Parameter } from './parameter';

/** Where and how a module's tensors live; what is left out stays as it is. */
export interface ModuleToOptions {
  device?: Device;
  /** Applies to floating-point parameters and buffers only: counters keep their integer type. */
  dtype?: DType;
  /** Applies to tensors of four dimensions only: the weights of convolutions. */
  memoryFormat?: MemoryFormat;
}

/** A module with any input and output. */
export type AnyModule = Module<unknown[], unknown>;

interface Buffer {
  tensor: Tensor | null;
  persistent: boolean;
}

/**
 * The base of everything with parameters: layers, encoders, heads.
 *
 * A subclass assigns its parts to ordinary properties. Properties that hold a {@link Parameter} or a `Module` are found by
 * looking, in the order of assignment; tensors that are state but are not trained are announced with
 * {@link Module.registerBuffer}. Names in state dicts are the dotted paths of properties in PyTorch's snake_case, so a
 * module with PyTorch's structure and property names exchanges checkpoints with PyTorch.
 *
 * A parameter or buffer keeps its identity for life: {@link Module.to} and {@link Module.loadStateDict} change it in place,
 * so optimisers and moving averages stay attached.
 *
 * @typeParam Input the arguments of `forward`
 * @typeParam Output what `forward` gives
 */
export abstract class Module<Input extends unknown[] = [Tensor], Output = Tensor> {
  /** Whether the module is in training mode; matters to dropout and batch normalisation. Set it by {@link Module.train}. */
  training = true;

  readonly #buffers = new Map<string, Buffer>();

  /** Computes the output. */
  abstract forward(...input: Input): Output;

  /**
   * Announces a tensor that is state but not trained, such as a running mean, and keeps it beyond the current scope.
   *
   * @param name the property's name; assign the result to a property of that name to read the buffer
   * @param tensor the buffer, or null for one that this configuration does not have
   * @param options `persistent` (default true): whether the buffer is part of the state dict
   * @returns the same tensor
   */
  protected registerBuffer<T extends Tensor | null>(
    name: string,
    tensor: T,
    options: { persistent?: boolean } = {},
  ): T {
    const { persistent = true } = options;
    this.#buffers.set(snakeCase(name), { tensor, persistent });
    if (tensor !== null) keep(tensor);
    return tensor;
  }

  /** The direct children by their names in state dicts, in the order of assignment. */
  namedChildren(): Map<string, AnyModule> {
    const children = new Map<string, AnyModule>();
    for (const [property, value] of Object.entries(this)) {
      if (value instanceof Module) children.set(snakeCase(property), value);
    }
    return children;
  }

  /**
   * Puts another module in the place of a direct child: in every property that holds it.
   *
   * @param name the child's name in state dicts
   * @throws InvalidArgumentError if there is no such child, or it is held in another way than by a property
   */
  replaceChild(name: string, child: AnyModule): void {
    const old = this.namedChildren().get(name);
    const holders = Object.entries(this).flatMap(([property, value]) => (value === old ? [property] : []));
    if (old === undefined || holders.length === 0) throw noSuchChild(this, name);
    for (const holder of holders) (this as unknown as Record<string, unknown>)[holder] = child;
  }

  /** This module (under the name '') and all below it, by dotted path; one that occurs twice is given once. */
  namedModules(): Map<string, AnyModule> {
    const found = new Map<string, AnyModule>();
    const seen = new Set<AnyModule>();
    const visit = (module: AnyModule, path: string): void => {
      if (seen.has(module)) return;
      seen.add(module);
      found.set(path, module);
      for (const [name, child] of module.namedChildren()) visit(child, path === '' ? name : `${path}.${name}`);
    };
    visit(this, '');
    return found;
  }

  /** This module and all below it, each once. */
  modules(): AnyModule[] {
    return [...this.namedModules().values()];
  }

  /** The parameters by dotted path; one that occurs twice (tied weights) is given once. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    const seen = new Set<Parameter>();
    for (const [path, module] of this.namedModules()) {
      for (const [name, parameter] of module.#ownParameters()) {
        if (seen.has(parameter)) continue;
        seen.add(parameter);
        found.set(path === '' ? name : `${path}.${name}`, parameter);
      }
    }
    return found;
  }

  /** The parameters, each once. */
  parameters(): Parameter[] {
    return [...this.namedParameters().values()];
  }

  /** The buffers by dotted path, those outside the state dict included. */
  namedBuffers(): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    for (const [path, module] of this.namedModules()) {
      for (const [name, { tensor }] of module.#buffers) {
        if (tensor !== null) found.set(path === '' ? name : `${path}.${name}`, tensor);
      }
    }
    return found;
  }

  /** Puts this module and all below it in training mode, or in evaluation mode with `false`. */
  train(on = true): this {
    for (const module of this.modules()) module.training = on;
    return this;
  }

  /** Puts this module and all below it in evaluation mode: no dropout, normalisation by running statistics. */
  eval(): this {
    return this.train(false);
  }

  /** Whether gradients are to be computed for the parameters. */
  requiresGrad_(on = true): this {
    for (const parameter of this.parameters()) parameter.requiresGrad_(on);
    return this;
  }

  /** Calls `action` with every module below this one, children first, and then with this one. */
  apply(action: (module: AnyModule) => void): this {
    const seen = new Set<AnyModule>();
    const visit = (module: AnyModule): void => {
      if (seen.has(module)) return;
      seen.add(module);
      for (const child of module.namedChildren().values()) visit(child);
      action(module);
    };
    visit(this);
    return this;
  }

  /**
   * Moves or converts all parameters, their gradients and all buffers, in place.
   *
   * @param options a device, an element type, or an object with these and a memory format
   */
  to(options: ModuleToOptions | Device | DType): this {
    const target: ModuleToOptions =
      typeof options === 'object' ? options : isDType(options) ? { dtype: options } : { device: options };
    if (target.dtype !== undefined && !isFloating(target.dtype)) {
      throw new InvalidArgumentError(`a module's parameters need a floating-point dtype, found ${target.dtype}`);
    }
    noGrad(() => {
      for (const parameter of this.parameters()) {
        const gradient = parameter.grad;
        parameter.setData(converted(parameter, target));
        if (gradient !== null) parameter.grad = converted(gradient, target);
      }
      for (const buffer of this.namedBuffers().values()) buffer.setData(converted(buffer, target));
    });
    return this;
  }

  /**
   * All parameters and persistent buffers by dotted path, as detached aliases: writing one changes the module.
   *
   * @param prefix put before every name
   */
  stateDict(prefix = ''): Map<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const [name, tensor] of this.#stateTensors()) state.set(prefix + name, tensor.detach());
    return state;
  }

  /**
   * Compares a state dict with this module.
   *
   * @param options `strict` (default true): whether missing and unexpected names are errors
   * @returns the names that the dict lacks, and those that the module lacks; both empty when strict
   * @throws InvalidArgumentError listing missing and unexpected names (strict) and mismatched shapes (always)
   */
  checkStateDict(
    state: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
    options: { strict?: boolean } = {},
  ): { missing: string[]; unexpected: string[] } {
    const { strict = true } = options;
    const given = asMap(state);
    const own = this.#stateTensors();
    const missing = [...own.keys()].filter((name) => !given.has(name));
    const unexpected = [...given.keys()].filter((name) => !own.has(name));
    const problems: string[] = [];
    if (strict && missing.length > 0) problems.push(`missing: ${missing.join(', ')}`);
    if (strict && unexpected.length > 0) problems.push(`unexpected: ${unexpected.join(', ')}`);
    for (const [name, tensor] of own) {
      const source = given.get(name);
      if (source !== undefined && source.shape.join() !== tensor.shape.join()) {
        problems.push(`${name}: has shape [${tensor.shape.join(', ')}], found [${source.shape.join(', ')}]`);
      }
    }
    if (problems.length > 0) {
      throw new InvalidArgumentError(
        `the state dict does not fit this ${this.constructor.name} (a checkpoint of another architecture?):\n  ${problems.join('\n  ')}`,
      );
    }
    return { missing, unexpected };
  }

  /**
   * Copies values into the parameters and buffers of the same name, converting dtype and device as needed.
   *
   * @param options as for {@link Module.checkStateDict}, which is called first
   * @returns the names that the dict lacks, and those that the module lacks; both empty when strict
   * @throws InvalidArgumentError before anything changes
   */
  loadStateDict(
    state: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
    options: { strict?: boolean } = {},
  ): { missing: string[]; unexpected: string[] } {
    const differences = this.checkStateDict(state, options);
    const given = asMap(state);
    noGrad(() => {
      for (const [name, tensor] of this.#stateTensors()) {
        const source = given.get(name);
        if (source !== undefined) tensor.copy_(source).dispose();
      }
    });
    return differences;
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null;
  }

  /** Frees all parameters and buffers now; the module is of no use afterwards. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
    for (const buffer of this.namedBuffers().values()) buffer.dispose();
  }

  #ownParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    for (const [property, value] of Object.entries(this)) {
      if (value instanceof Parameter) found.set(snakeCase(property), value);
    }
    return found;
  }

  // Unlike namedParameters, a tensor that occurs twice is listed under both names: a checkpoint needs both.
  #stateTensors(): Map<string, Tensor> {
    const state = new Map<string, Tensor>();
    const visit = (module: AnyModule, prefix: string): void => {
      for (const [name, parameter] of module.#ownParameters()) state.set(prefix + name, parameter);
      for (const [name, { tensor, persistent }] of module.#buffers) {
        if (tensor !== null && persistent) state.set(prefix + name, tensor);
      }
      for (const [name, child] of module.namedChildren()) visit(child, `${prefix}${name}.`);
    };
    visit(this, '');
    return state;
  }
}

function converted(tensor: Tensor, target: ModuleToOptions): Tensor {
  const { device = tensor.device, memoryFormat } = target;
  const dtype = target.dtype !== undefined && tensor.isFloatingPoint() ? target.dtype : tensor.dtype;
  const moved = tensor.detach().to({ device, dtype });
  return memoryFormat !== undefined && moved.ndim === 4 ? moved.contiguous({ memoryFormat }) : moved;
}

function isDType(name: string): name is DType {
  return (dtypeNames as readonly string[]).includes(name);
}

function isFloating(dtype: DType): boolean {
  return /^b?float/.test(dtype) || dtype.startsWith('complex');
}

function asMap(state: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>): ReadonlyMap<string, Tensor> {
  return state instanceof Map ? (state as ReadonlyMap<string, Tensor>) : new Map(Object.entries(state));
}

/** @internal */
export function noSuchChild(module: AnyModule, name: string): InvalidArgumentError {
  const known = [...module.namedChildren().keys()].join(', ') || 'none';
  return new InvalidArgumentError(
    `${module.constructor.name} holds no child '${name}' that can be replaced; its children: ${known}`,
  );
}
