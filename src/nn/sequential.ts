import { InvalidArgumentError, scope, type Tensor } from '../torch';
import { Module, noSuchChild, type AnyModule } from './module';
import { moduleAt } from './module-list';

/**
 * Modules one after another, each fed with what the one before it gives.
 *
 * ```ts
 * new Sequential(new Linear({ inFeatures: 4, outFeatures: 8 }), new ReLU());
 * new Sequential({ hidden: new Linear({ inFeatures: 4, outFeatures: 8 }), activation: new ReLU() });
 * ```
 *
 * In state dicts the children are called by their position, or by the names given.
 */
export class Sequential extends Module implements Iterable<Module> {
  readonly #modules: Map<string, Module>;

  constructor(...modules: [Readonly<Record<string, Module>>] | Module[]) {
    super();
    this.#modules = entriesOf(modules);
  }

  /** How many modules there are. */
  get length(): number {
    return this.#modules.size;
  }

  /** The module at a position; negative positions count from the end. */
  at(position: number): Module {
    return moduleAt([...this.#modules.values()], position);
  }

  [Symbol.iterator](): Iterator<Module> {
    return this.#modules.values();
  }

  override namedChildren(): Map<string, AnyModule> {
    return new Map(this.#modules);
  }

  override replaceChild(name: string, child: AnyModule): void {
    if (!this.#modules.has(name)) throw noSuchChild(this, name);
    this.#modules.set(name, child as Module);
  }

  override forward(x: Tensor): Tensor {
    // What autograd needs it holds itself; the rest need not wait for the end of the caller's scope.
    return scope(() => {
      let value = x;
      for (const module of this.#modules.values()) value = module.forward(value);
      return value;
    });
  }
}

function entriesOf<M>(modules: [Readonly<Record<string, M>>] | M[]): Map<string, M> {
  const [first] = modules;
  if (modules.length === 1 && typeof first === 'object' && first !== null && !(first instanceof Module)) {
    const named = new Map(Object.entries(first as Readonly<Record<string, M>>));
    for (const name of named.keys()) {
      if (name === '' || name.includes('.')) {
        throw new InvalidArgumentError(`the name of a module must not be empty or hold a dot, found '${name}'`);
      }
    }
    return named;
  }
  return new Map((modules as M[]).map((module, index) => [String(index), module]));
}
