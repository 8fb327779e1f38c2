import { InvalidArgumentError } from './errors';
import type { Tensor } from './tensor';

/** What JSON can hold. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [name: string]: JsonValue };

/** An object of JSON values. */
export type JsonObject = Record<string, JsonValue>;

/**
 * Everything that an object needs to go on exactly where it was: tensors by name, and the small values beside them. A
 * checkpoint writes the tensors as safetensors and the values as JSON.
 */
export interface StateDict {
  /** Detached aliases of the object's own tensors: they see later changes, and writing them changes the object. */
  tensors: Map<string, Tensor>;
  /** Counters, positions, options. */
  values: JsonValue;
}

/** Something whose state can be saved and restored exactly. */
export interface Stateful {
  /** The present state. */
  stateDict(): StateDict;
  /**
   * Takes over a saved state.
   *
   * @throws InvalidArgumentError naming what is missing, unexpected or of another shape, before anything changes.
   */
  loadStateDict(state: StateDict): void;
}

/**
 * Joins the states of several parts into one: the tensors of part `a` are named `a.<name>`, its values are the member `a`
 * of an object.
 */
export function joinStates(parts: Record<string, StateDict>): StateDict {
  const tensors = new Map<string, Tensor>();
  const values: JsonObject = {};
  for (const [part, state] of Object.entries(parts)) {
    for (const [name, tensor] of state.tensors) tensors.set(`${part}.${name}`, tensor);
    values[part] = state.values;
  }
  return { tensors, values };
}

/**
 * Takes one part back out of a joined state.
 *
 * @throws InvalidArgumentError if the state has no such part.
 */
export function partOfState(state: StateDict, part: string): StateDict {
  const values = jsonObject(state.values, 'the values of the state')[part];
  if (values === undefined) throw new InvalidArgumentError(`the state has no part '${part}'`);
  const prefix = `${part}.`;
  const tensors = new Map<string, Tensor>();
  for (const [name, tensor] of state.tensors) {
    if (name.startsWith(prefix)) tensors.set(name.slice(prefix.length), tensor);
  }
  return { tensors, values };
}

/**
 * The value as an object.
 *
 * @throws InvalidArgumentError if it is anything else.
 */
export function jsonObject(value: JsonValue | undefined, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError(`${what}: expected an object, found ${JSON.stringify(value) ?? 'nothing'}`);
  }
  return value;
}

/**
 * The member `name` of an object of values, as a finite number.
 *
 * @throws InvalidArgumentError if it is missing or anything else.
 */
export function jsonNumber(values: JsonObject, name: string, what: string): number {
  const value = values[name];
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new InvalidArgumentError(`${what}: '${name}' must be a number, found ${JSON.stringify(value) ?? 'nothing'}`);
  }
  return value;
}
