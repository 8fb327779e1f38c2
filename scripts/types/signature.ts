/** From a schema to the ways it can be called in TypeScript, and the merging of ways that differ little. */
import { camelCase } from '../../src/torch/names';
import type { Argument, Result, Schema } from './schema';

/** A TypeScript union, as the list of its members in the order in which they are written. */
export type Union = readonly string[];

export interface Parameter {
  name: string;
  type: Union;
  optional: boolean;
}

/** One call signature. `options` are the keyword arguments of the last parameter; empty when there is none. */
export interface Signature {
  parameters: Parameter[];
  options: Parameter[];
  /** Whether the operator makes a tensor of a dtype and on a device that the caller chooses. */
  factory: boolean;
  result: string;
  /** The schemas that the signature stands for. */
  schemas: string[];
}

const scalarTypes: Record<string, Union> = {
  Tensor: ['Tensor'],
  int: ['number'],
  SymInt: ['number'],
  float: ['number'],
  Scalar: ['Scalar'],
  bool: ['boolean'],
  str: ['string'],
  ScalarType: ['DType'],
  Device: ['Device'],
  Layout: ['Layout'],
  MemoryFormat: ['MemoryFormat'],
  Generator: ['Generator'],
};

const order = [
  'Tensor',
  'Scalar',
  'number',
  'boolean',
  'string',
  'readonly Tensor[]',
  'readonly (Tensor | null)[]',
  'readonly Scalar[]',
  'readonly number[]',
  'readonly boolean[]',
  'readonly string[]',
];

/** What a member of a union already says of others. */
const includes: Record<string, readonly string[]> = {
  Scalar: ['number', 'boolean'],
  'readonly (Tensor | null)[]': ['readonly Tensor[]'],
  'readonly Scalar[]': ['readonly number[]', 'readonly boolean[]'],
};

/** The strings that an operator accepts, where a schema says only `str`. Keys: `operator.argument`. */
const literals: Record<string, readonly string[]> = {
  'div.rounding_mode': ['floor', 'trunc'],
  'div_.rounding_mode': ['floor', 'trunc'],
  'divide.rounding_mode': ['floor', 'trunc'],
  'divide_.rounding_mode': ['floor', 'trunc'],
  'gelu.approximate': ['none', 'tanh'],
  'gelu_.approximate': ['none', 'tanh'],
  'index_reduce.reduce': ['prod', 'mean', 'amax', 'amin'],
  'index_reduce_.reduce': ['prod', 'mean', 'amax', 'amin'],
  'meshgrid.indexing': ['ij', 'xy'],
  'pad.mode': ['constant', 'reflect', 'replicate', 'circular'],
  'scatter.reduce': ['add', 'multiply'],
  'scatter_.reduce': ['add', 'multiply'],
  'scatter_reduce.reduce': ['sum', 'prod', 'mean', 'amax', 'amin'],
  'scatter_reduce_.reduce': ['sum', 'prod', 'mean', 'amax', 'amin'],
  'segment_reduce.reduce': ['sum', 'prod', 'mean', 'max', 'min'],
  'conv1d.padding': ['valid', 'same'],
  'conv2d.padding': ['valid', 'same'],
  'conv3d.padding': ['valid', 'same'],
};

/** The TypeScript type of an argument, or undefined where JavaScript has no value for it. */
export function argumentType(operator: string, argument: Argument): Union | undefined {
  const { type } = argument;
  const optional = type.endsWith('?');
  const plain = optional ? type.slice(0, -1) : type;
  const list = /^(\w+)(\?)?\[(\d*)\]$/.exec(plain);
  let union: Union;
  if (list) {
    const item = scalarTypes[list[1]]?.[0];
    if (item === undefined || plain.includes('][')) return undefined;
    const array = list[2] ? `readonly (${item} | null)[]` : `readonly ${item}[]`;
    // A list of fixed length takes a single value for all its items; bool[3] and the like are masks, which it does not suit.
    union = list[3] !== '' && item === 'number' ? [item, array] : [array];
  } else {
    const known = scalarTypes[plain];
    if (!known) return undefined;
    const strings = plain === 'str' ? literals[`${operator}.${argument.name}`] : undefined;
    union = strings ? strings.map((value) => `'${value}'`) : known;
  }
  return optional ? [...union, 'null'] : union;
}

const resultTypes: Record<string, string> = {
  Tensor: 'Tensor',
  'Tensor[]': 'Tensor[]',
  int: 'number',
  SymInt: 'number',
  float: 'number',
  Scalar: 'number',
  bool: 'boolean',
  ScalarType: 'DType',
};

/** The TypeScript type of what an operator gives back, or undefined where JavaScript has no value for it. */
export function resultType(results: readonly Result[]): string | undefined {
  if (results.length === 0) return 'void';
  const types = results.map(({ type }) => resultTypes[type] as string | undefined);
  if (types.includes(undefined)) return undefined;
  if (types.length === 1) return types[0];
  const named = results.every(({ name }) => name !== undefined);
  return `readonly [${types.map((type, i) => (named ? `${camelCase(results[i].name!)}: ${type}` : type)).join(', ')}]`;
}

/**
 * The ways to call a schema: all positional arguments in order, and each shorter row of them with the rest by name.
 * Undefined when an argument or the result has no TypeScript type.
 */
export function signaturesOf(schema: Schema): Signature[] | undefined {
  const result = resultType(schema.results);
  if (result === undefined) return undefined;
  const parameters: Parameter[] = [];
  const options: Parameter[] = [];
  for (const argument of schema.arguments) {
    const type = argumentType(schema.name, argument);
    if (!type) return undefined;
    (argument.keywordOnly ? options : parameters).push({
      name: camelCase(argument.name),
      type,
      optional: argument.default !== undefined,
    });
  }
  const names = new Set(schema.arguments.filter((argument) => argument.keywordOnly).map((argument) => argument.name));
  const factory = result === 'Tensor' && names.has('dtype') && names.has('device');
  if (factory) options.push({ name: 'requiresGrad', type: ['boolean'], optional: true });

  let required = parameters.length;
  while (required > 0 && parameters[required - 1].optional) required--;
  // A default that a required argument follows cannot be left out.
  const fixed = parameters.slice(0, required).map((parameter) => ({ ...parameter, optional: false }));
  const free = parameters.slice(required);
  const base = { factory, result, schemas: [schema.text] };
  const mustName = options.some((option) => !option.optional);

  const signatures: Signature[] = [];
  for (let count = free.length; count >= 0; count--) {
    const given = free.slice(0, count);
    const full = count === free.length && !mustName;
    signatures.push({
      ...base,
      parameters: [...fixed, ...given.map((parameter) => ({ ...parameter, optional: full }))],
      options: [...free.slice(count), ...options],
    });
  }
  return signatures;
}

/** Joins signatures that differ in the type of one parameter, and drops those that another one covers. */
export function simplify(signatures: readonly Signature[]): Signature[] {
  const list: Signature[] = [];
  for (const signature of signatures) {
    let current: Signature | undefined = signature;
    for (let i = 0; i < list.length && current; i++) {
      const joined = join(list[i], current);
      if (joined) {
        list[i] = joined;
        current = undefined;
      } else if (covers(list[i], current)) {
        list[i] = { ...list[i], schemas: unique([...list[i].schemas, ...current.schemas]) };
        current = undefined;
      } else if (covers(current, list[i])) {
        current = { ...current, schemas: unique([...list[i].schemas, ...current.schemas]) };
        list.splice(i--, 1);
      }
    }
    if (current) list.push(current);
  }
  // A join can make two others alike, so go on until nothing changes.
  return list.length < signatures.length ? simplify(list) : list;
}

function join(a: Signature, b: Signature): Signature | undefined {
  if (a.result !== b.result || a.factory !== b.factory) return undefined;
  if (a.parameters.length !== b.parameters.length || a.options.length !== b.options.length) return undefined;
  const options = a.options.map((option) => b.options.find(({ name }) => name === option.name));
  const pairs = [
    ...a.parameters.map((parameter, i) => [parameter, b.parameters[i]] as const),
    ...a.options.map((option, i) => [option, options[i]] as const),
  ];
  if (!pairs.every(([p, q]) => q !== undefined && p.name === q.name && p.optional === q.optional)) return undefined;
  if (pairs.filter(([p, q]) => !contains(p.type, q!.type) || !contains(q!.type, p.type)).length > 1) return undefined;
  const united = pairs.map(([p, q]): Parameter => ({ ...p, type: unite(p.type, q!.type) }));
  return {
    ...a,
    parameters: united.slice(0, a.parameters.length),
    options: united.slice(a.parameters.length),
    schemas: unique([...a.schemas, ...b.schemas]),
  };
}

/** Whether every call that `b` allows is one that `a` allows with the same result. */
function covers(a: Signature, b: Signature): boolean {
  if (a.result !== b.result || b.parameters.length > a.parameters.length) return false;
  const needsOptions = a.options.some((option) => !option.optional);
  const restOptional = a.parameters.slice(b.parameters.length).every((parameter) => parameter.optional);
  if (!restOptional || (needsOptions && b.options.length === 0)) return false;
  for (let i = 0; i < b.parameters.length; i++) {
    const p = a.parameters[i];
    const q = b.parameters[i];
    if (!contains(p.type, q.type) || (q.optional && !p.optional)) return false;
  }
  if (b.options.length === 0) return true;
  if (a.parameters.length !== b.parameters.length) return false;
  const known = new Map(a.options.map((option) => [option.name, option]));
  const matched = b.options.every((option) => {
    const same = known.get(option.name);
    return same !== undefined && contains(same.type, option.type) && (same.optional || !option.optional);
  });
  const names = new Set(b.options.map((option) => option.name));
  return matched && a.options.every((option) => option.optional || names.has(option.name));
}

function contains(outer: Union, inner: Union): boolean {
  return inner.every((member) => outer.some((other) => other === member || includes[other]?.includes(member)));
}

function unite(a: Union, b: Union): Union {
  const all = unique([...a, ...b]);
  const kept = all.filter((member) => !all.some((other) => includes[other]?.includes(member)));
  const rank = (member: string) => {
    if (member === 'null') return order.length + 1;
    const place = order.indexOf(member);
    return place === -1 ? order.length : place;
  };
  return kept.sort((x, y) => rank(x) - rank(y));
}

function unique<T>(items: readonly T[]): T[] {
  return [...new Set(items)];
}
