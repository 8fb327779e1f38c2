import { InvalidArgumentError } from '../torch';
import { Module, ModuleList, Sequential, type AnyModule } from '../nn';

/**
 * Puts other modules in the place of some of a model's, wherever they stand: in properties, and in `Sequential` and `ModuleList`,
 * which are made anew with the same children and names.
 *
 * @returns the model, which is another object only if it is itself replaced or such a list
 * @throws InvalidArgumentError, before anything changes, if a module to replace is held in another way
 * @internal
 */
export function replaceModules<M extends AnyModule>(model: M, replacements: ReadonlyMap<AnyModule, AnyModule>): M {
  const changes: (() => void)[] = [];
  const done = new Map<AnyModule, AnyModule>();
  const visit = (module: AnyModule, path: string): AnyModule => {
    const known = done.get(module) ?? replacements.get(module);
    if (known !== undefined) return known;
    // Its own children may hold it again; and a list that did not change stays itself.
    done.set(module, module);
    const children = [...module.namedChildren()];
    const renewed = children.map(([name, child]) => visit(child, path === '' ? name : `${path}.${name}`));
    const changed = children.flatMap(([name, child], index) => (renewed[index] === child ? [] : [name]));
    if (changed.length === 0) return module;
    const list = renewedList(module, children, renewed);
    if (list !== null) {
      list.training = module.training;
      done.set(module, list);
      return list;
    }
    const properties = module as unknown as Record<string, unknown>;
    children.forEach(([name, child], index) => {
      const other = renewed[index]!;
      if (other === child) return;
      const holders = Object.keys(properties).filter((property) => properties[property] === child);
      if (holders.length === 0) {
        throw new InvalidArgumentError(
          `cannot replace '${path === '' ? name : `${path}.${name}`}': ${module.constructor.name} holds it neither in a property ` +
            `nor in a Sequential or ModuleList`,
        );
      }
      for (const holder of holders) changes.push(() => (properties[holder] = other));
    });
    return module;
  };
  const result = visit(model, '');
  for (const change of changes) change();
  return result as M;
}

function renewedList(
  module: AnyModule,
  children: readonly (readonly [string, AnyModule])[],
  renewed: readonly AnyModule[],
): AnyModule | null {
  if (module.constructor === Sequential) {
    return new Sequential(Object.fromEntries(children.map(([name], index) => [name, renewed[index] as Module])));
  }
  if (module.constructor === ModuleList) return new ModuleList(renewed);
  return null;
}
