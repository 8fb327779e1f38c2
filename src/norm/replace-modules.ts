import type { AnyModule } from '../nn';

/**
 * Puts other modules in the place of some of a model's, wherever they stand.
 *
 * @returns the model, which is another object only if it is itself replaced
 * @throws InvalidArgumentError, with the model as it was, if a module holds a child in a way that does not let it be replaced
 * @internal
 */
export function replaceModules<M extends AnyModule>(model: M, replacements: ReadonlyMap<AnyModule, AnyModule>): M {
  const itself = replacements.get(model);
  if (itself !== undefined) return itself as M;
  const undo: (() => void)[] = [];
  try {
    for (const module of model.modules()) {
      for (const [name, child] of module.namedChildren()) {
        const other = replacements.get(child);
        if (other === undefined) continue;
        module.replaceChild(name, other);
        undo.push(() => module.replaceChild(name, child));
      }
    }
  } catch (error) {
    for (const step of undo) step();
    throw error;
  }
  return model;
}
