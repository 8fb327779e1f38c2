import { InvalidArgumentError } from '../torch';
import { Module, noSuchChild, type AnyModule } from './module';

/**
 * A list of modules without an order of computation of its own: the owner calls them as it needs. In state dicts the
 * children are called by their position.
 */
export class ModuleList<M extends AnyModule = Module> extends Module<never[], never> implements Iterable<M> {
  readonly #modules: M[];

  constructor(modules: Iterable<M> = []) {
    super();
    this.#modules = [...modules];
  }

  /** How many modules there are. */
  get length(): number {
    return this.#modules.length;
  }

  /** The module at a position; negative positions count from the end. */
  at(position: number): M {
    return moduleAt(this.#modules, position);
  }

  /** Adds a module at the end. */
  push(module: M): void {
    this.#modules.push(module);
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#modules.values();
  }

  override namedChildren(): Map<string, AnyModule> {
    return new Map(this.#modules.map((module, index) => [String(index), module]));
  }

  override replaceChild(name: string, child: AnyModule): void {
    if (!this.namedChildren().has(name)) throw noSuchChild(this, name);
    this.#modules[Number(name)] = child as M;
  }

  /** @throws InvalidArgumentError always: a list has no order of computation. */
  override forward(): never {
    throw new InvalidArgumentError('a ModuleList computes nothing itself: call its modules');
  }
}

/** @internal */
export function moduleAt<M>(modules: readonly M[], position: number): M {
  const module = modules.at(position);
  if (module === undefined) {
    throw new InvalidArgumentError(`no module at position ${position}: there are ${modules.length}`);
  }
  return module;
}
