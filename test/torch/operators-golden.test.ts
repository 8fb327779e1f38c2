/** Calls of LibTorch's operators, made in every form that they have, against PyTorch's results (test/golden/make_operators.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Generator, grad, libtorchBuild, manualSeed, ops, scope, Tensor, torch, type DType } from '../../src/torch';
import { camelCase, unpackNames } from '../../src/torch/names';
import { functionNames, methodNames } from '../../src/torch/names.generated';

/** A value as the script stores it. The numbers in `tensor` and `sparse` are places in the list of tensors. */
type Stored =
  | null
  | boolean
  | number
  | string
  | Stored[]
  | { tensor: number }
  | { sparse: [indices: number, values: number]; shape: number[]; coalesced: boolean }
  | { integer: string }
  | { number: string }
  | { complex: [re: Stored, im: Stored] }
  | { generator: number };

interface Call {
  /** Name and overload. */
  op: string;
  /** The dtype of the samples that the call comes from. */
  dtype: DType;
  args: Stored[];
  kwargs?: Record<string, Stored>;
  results: Stored[];
  /** What the arguments that the operator changes hold afterwards, by position or name. */
  written?: Record<string, Stored>;
  /** Whether the overload writes its results to given tensors: the methods and functions have no such form. */
  toGiven?: true;
  /** Results that are memory which nobody wrote, by position. */
  shapeOnly?: number[];
  /** Results whose sign or phase another processor's code may choose otherwise, by position. */
  phases?: number[];
  /** Whether the call draws random numbers; it is made after seeding with 0. */
  seeded?: true;
  /** Whether LibTorch may warn. */
  warns?: true;
  /** The gradient of each floating tensor among the arguments, in float64 and complex128. */
  gradients?: (number | null)[];
}

interface File {
  cpuCapability: string;
  /** The positional arguments of each overload. */
  names: Record<string, string[]>;
  tensors: [dtype: DType, shape: number[], data: string, strides?: number[]][];
  cases: Call[];
}

type AnyFunction = (...args: unknown[]) => unknown;
type Form = 'overload' | 'method' | 'function' | 'keywords' | 'gradients';

const file = JSON.parse(readFileSync(join(__dirname, '..', 'golden', 'operators.json'), 'utf8')) as File;
const sameProcessor = libtorchBuild().cpuCapability === file.cpuCapability;
const methods = new Set(unpackNames(methodNames));
const functions = new Set(unpackNames(functionNames));

/** |actual - expected| <= atol + rtol * |expected|; what is not listed is compared exactly. */
const tolerances: Partial<Record<DType, { atol: number; rtol: number }>> = {
  float64: { atol: 1e-10, rtol: 1e-8 },
  complex128: { atol: 1e-10, rtol: 1e-8 },
  float32: { atol: 1e-5, rtol: 1e-5 },
  complex64: { atol: 1e-5, rtol: 1e-5 },
  float16: { atol: 1e-3, rtol: 5e-3 },
  bfloat16: { atol: 1e-2, rtol: 2e-2 },
};

const raw = ops.aten as unknown as Record<string, Record<string, AnyFunction>>;
const bytes = new Map<number, Buffer>();

function elementBytes(dtype: DType): number {
  if (dtype === 'bool') return 1;
  return Number(/\d+$/.exec(dtype)![0]) / 8;
}

function storedTensor(place: number): Tensor {
  const [dtype, shape, data, strides] = file.tensors[place]!;
  let buffer = bytes.get(place);
  if (buffer === undefined) bytes.set(place, (buffer = Buffer.from(data, 'base64')));
  if (strides === undefined) return torch.fromBytes(buffer, shape, dtype);
  return torch.fromBytes(buffer, [buffer.length / elementBytes(dtype)], dtype).asStrided(shape, strides);
}

function storedNumber(stored: Stored): number {
  if (typeof stored === 'number') return stored;
  return Number((stored as { number: string }).number.replace('inf', 'Infinity'));
}

function decode(stored: Stored): unknown {
  if (typeof stored !== 'object' || stored === null) return stored;
  if (Array.isArray(stored)) return stored.map(decode);
  if ('tensor' in stored) return storedTensor(stored.tensor);
  if ('sparse' in stored) {
    const [indices, values] = stored.sparse;
    const options = { isCoalesced: stored.coalesced };
    return torch.sparseCooTensor(storedTensor(indices), storedTensor(values), stored.shape, options);
  }
  if ('integer' in stored) return BigInt(stored.integer);
  if ('number' in stored) return storedNumber(stored);
  if ('complex' in stored) return { re: storedNumber(stored.complex[0]), im: storedNumber(stored.complex[1]) };
  return new Generator({ seed: stored.generator });
}

type Measure = 'exact' | 'close' | 'shape';

function isNear(actual: number, expected: number, tolerance: { atol: number; rtol: number } | undefined): boolean {
  if (Object.is(actual, expected)) return true;
  if (tolerance === undefined) return false;
  const difference = Math.abs(actual - expected);
  return (
    actual === expected || (difference <= tolerance.atol + tolerance.rtol * Math.abs(expected) && difference < Infinity)
  );
}

function checkTensor(actual: unknown, place: number, what: string, measure: Measure): void {
  assert.ok(actual instanceof Tensor, `${what} is no tensor`);
  const expected = storedTensor(place);
  assert.equal(actual.dtype, expected.dtype, `${what}: dtype`);
  assert.deepEqual(actual.shape, expected.shape, `${what}: shape`);
  if (expected.numel() === 0) return;
  const { shape } = expected;
  const steps = (tensor: Tensor): number[] => tensor.strides.filter((_, dimension) => shape[dimension]! > 1);
  assert.deepEqual(steps(actual), steps(expected), `${what}: strides`);
  if (measure === 'shape') return;
  const tolerance = measure === 'close' ? tolerances[expected.dtype] : undefined;
  const [found, wanted] = [actual.dataSync(), expected.dataSync()];
  for (let i = 0; i < wanted.length; i++) {
    const [a, b] = [found[i]!, wanted[i]!];
    if (a === b || isNear(a as number, b as number, tolerance)) continue;
    assert.fail(`${what}: element ${String(i)} is ${String(a)}, not ${String(b)}`);
  }
}

function check(actual: unknown, stored: Stored, what: string, measure: Measure): void {
  if (typeof stored === 'number') {
    assert.ok(
      isNear(actual as number, stored, tolerances.float32),
      `${what} is ${String(actual)}, not ${String(stored)}`,
    );
  } else if (typeof stored !== 'object' || stored === null) {
    assert.equal(actual, stored, what);
  } else if (Array.isArray(stored)) {
    assert.ok(
      Array.isArray(actual) && actual.length === stored.length,
      `${what} is no list of ${String(stored.length)}`,
    );
    stored.forEach((item, i) => {
      check(actual[i], item, `${what}[${String(i)}]`, measure);
    });
  } else if ('tensor' in stored) {
    checkTensor(actual, stored.tensor, what, measure);
  } else if ('sparse' in stored) {
    assert.ok(actual instanceof Tensor, `${what} is no tensor`);
    assert.deepEqual(actual.shape, stored.shape, `${what}: shape`);
    assert.equal(actual.isCoalesced(), stored.coalesced, `${what}: coalesced`);
    checkTensor(raw._indices!.default!(actual), stored.sparse[0], `${what}: indices`, measure);
    checkTensor(raw._values!.default!(actual), stored.sparse[1], `${what}: values`, measure);
  } else {
    assert.deepEqual(actual, decode(stored), what);
  }
}

function camelCased(kwargs: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(kwargs).map(([name, value]) => [camelCase(name), value]));
}

/**
 * Makes a call by its overload in the raw table, or leaves the choice of the overload to the method of the first argument or to
 * the member of `torch`, with positional arguments as they are or, but for the first, as keywords.
 */
function makeCall(form: Form, op: string, args: unknown[], kwargs: Record<string, unknown>): unknown {
  const [name, overload = 'default'] = op.split('.') as [string, string?];
  const { [camelCase(name)]: torchFunction } = torch as unknown as Record<string, AnyFunction>;
  const [first, ...rest] = args;
  const optional = (options: Record<string, unknown>): unknown[] => (Object.keys(options).length > 0 ? [options] : []);
  switch (form) {
    case 'method':
      return (first as Record<string, AnyFunction>)[camelCase(name)]!(...rest, ...optional(camelCased(kwargs)));
    case 'function':
      return torchFunction!(...args, ...optional(camelCased(kwargs)));
    case 'keywords': {
      const named = Object.fromEntries(rest.map((value, i) => [file.names[op]![i + 1]!, value]));
      return torchFunction!(first, camelCased({ ...named, ...kwargs }));
    }
    default:
      return raw[name]![overload]!(...args, ...optional(kwargs));
  }
}

function decodeArguments(call: Call): { args: unknown[]; kwargs: Record<string, unknown> } {
  const kwargs = Object.entries(call.kwargs ?? {}).map(([name, stored]): [string, unknown] => [name, decode(stored)]);
  return { args: call.args.map(decode), kwargs: Object.fromEntries(kwargs) };
}

/** An operator without results gives undefined, one with several an array of them. */
function resultsOf(call: Call, returned: unknown): unknown[] {
  if (call.results.length === 0) assert.equal(returned, undefined);
  return call.results.length === 1 ? [returned] : ((returned ?? []) as unknown[]);
}

function checkResults(call: Call, form: Form): void {
  const { args, kwargs } = decodeArguments(call);
  if (call.seeded) manualSeed(0);
  const results = resultsOf(call, makeCall(form, call.op, args, kwargs));
  assert.equal(results.length, call.results.length, 'results');
  const measure = call.seeded && sameProcessor ? 'exact' : 'close';
  call.results.forEach((stored, i) => {
    const isLoose = call.shapeOnly?.includes(i) === true || (!sameProcessor && call.phases?.includes(i) === true);
    check(results[i], stored, `result ${String(i)}`, isLoose ? 'shape' : measure);
  });
  if (call.phases && !sameProcessor) return;
  for (const [key, stored] of Object.entries(call.written ?? {})) {
    check(key in kwargs ? kwargs[key] : args[Number(key)], stored, `argument ${key} afterwards`, measure);
  }
}

function tensorsIn(value: unknown): Tensor[] {
  if (value instanceof Tensor) return [value];
  return Array.isArray(value) ? value.flatMap(tensorsIn) : [];
}

/** Arguments that the operator changes cannot be leaves. */
function copyOf(value: unknown): unknown {
  if (value instanceof Tensor) return value.clone();
  return Array.isArray(value) ? value.map(copyOf) : value;
}

/** The script's weights: w(k) = ((7 k + 3 position) mod 11 - 5) / 8 for element k of an output. */
function weightsFor(output: Tensor, position: number): Tensor {
  const weight = (k: number): number => (((7 * k + 3 * position) % 11) - 5) / 8;
  const isComplex = output.dtype.startsWith('complex');
  const weights = Array.from({ length: output.numel() }, (_, k) =>
    isComplex ? [weight(k), weight(k + 3)] : weight(k),
  );
  const dtype = isComplex ? 'complex128' : 'float64';
  return torch.fromTypedArray(Float64Array.from(weights.flat()), output.shape, { dtype }).to(output.dtype);
}

function checkGradients(call: Call, gradients: (number | null)[]): void {
  const { args, kwargs } = decodeArguments(call);
  const leaves = tensorsIn([...args, ...Object.values(kwargs)]).filter(({ dtype }) => /float|complex/.test(dtype));
  for (const leaf of leaves) leaf.requiresGrad = true;
  const given = args.map((value, i) => (call.written && String(i) in call.written ? copyOf(value) : value));
  manualSeed(0);
  const results = resultsOf(call, makeCall('gradients', call.op, given, kwargs));
  const outputs = tensorsIn(results).filter(({ requiresGrad }) => requiresGrad);
  const found = grad(outputs, leaves, { gradOutputs: outputs.map(weightsFor), allowUnused: true });
  assert.equal(found.length, gradients.length, 'gradients');
  gradients.forEach((place, i) => {
    if (place === null) assert.ok(found[i] === null, `gradient ${String(i)} is not null`);
    else checkTensor(found[i], place, `gradient ${String(i)}`, 'close');
  });
}

function formsOf(call: Call): Form[] {
  const name = call.op.split('.')[0]!;
  const first = call.args[0];
  const hasSelf = typeof first === 'object' && first !== null && ('tensor' in first || 'sparse' in first);
  const forms: Form[] = ['overload'];
  if (!call.toGiven && methods.has(name) && hasSelf) forms.push('method');
  if (!call.toGiven && functions.has(name)) {
    forms.push('function');
    if (call.args.length > 1) forms.push('keywords');
  }
  if (call.gradients) forms.push('gradients');
  return forms;
}

/** The calls of each operator, with names that do not depend on other operators. */
function callsByOperator(): Map<string, { name: string; call: Call }[]> {
  const operators = new Map<string, { name: string; call: Call }[]>();
  const counts = new Map<string, number>();
  for (const call of file.cases) {
    const kind = `${call.op} ${call.dtype}`;
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    const operator = call.op.split('.')[0]!;
    const calls = operators.get(operator) ?? [];
    calls.push({ name: `${kind} ${String(count)}`, call });
    operators.set(operator, calls);
  }
  return operators;
}

describe("operators, against PyTorch's results", () => {
  const operators = callsByOperator();
  const { emitWarning } = process;
  let warnings: string[] = [];

  before(() => {
    process.emitWarning = (warning: string | Error): void => {
      warnings.push(String(warning));
    };
  });

  after(() => {
    process.emitWarning = emitWarning;
  });

  it('covers more than a thousand', () => {
    assert.ok(operators.size >= 1000, `only ${String(operators.size)} operators`);
    const withGradients = file.cases.filter(({ gradients }) => gradients).map(({ op }) => op.split('.')[0]);
    assert.ok(new Set(withGradients).size >= 500);
  });

  for (const [operator, calls] of operators) {
    it(operator, () => {
      const failures: string[] = [];
      for (const { name, call } of calls) {
        for (const form of formsOf(call)) {
          warnings = [];
          try {
            scope(() => {
              if (form === 'gradients') checkGradients(call, call.gradients!);
              else checkResults(call, form);
            });
            if (!call.warns) assert.deepEqual(warnings, [], 'warnings');
          } catch (error) {
            failures.push(`${form}: ${name}: ${(error as Error).message}`);
          }
        }
      }
      if (failures.length > 0) assert.fail(failures.join('\n'));
    });
  }
});
