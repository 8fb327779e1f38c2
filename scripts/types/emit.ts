/** Writes the generated files' text. */
import { camelCase, snakeCase } from '../../src/torch/names';
import { parseSchema, type Schema } from './schema';
import { handWrittenFunctions, handWrittenMembers, isMethod, isPublic, isUsable } from './select';
import { signaturesOf, simplify, type Parameter, type Signature } from './signature';

/** The generated files, by their paths below `src/torch/`. */
export interface GeneratedFiles {
  'tensor-methods.generated.ts': string;
  'functions.generated.ts': string;
  'names.generated.ts': string;
}

interface Operator {
  name: string;
  camelName: string;
  signatures: Signature[];
}

/** Names that cannot be a parameter's. As keys of options they are fine. */
const reserved = new Set(['default', 'delete', 'export', 'function', 'import', 'in', 'new', 'return', 'var', 'with']);

/**
 * Makes the generated files.
 *
 * @param schemas the text form of all schemas, in any order
 * @param version LibTorch's version, for the header
 */
export function generate(schemas: readonly string[], version: string): GeneratedFiles {
  // Only `aten` has schemas of a form that is always readable; other namespaces have variadic ones.
  const all = [...new Set(schemas)].filter((text) => text.startsWith('aten::')).map(parseSchema);
  const usable = all.filter((schema) => isPublic(schema) && isUsable(schema));
  const members = new Set<string>(handWrittenMembers);
  const excluded = new Set<string>([...handWrittenMembers, ...handWrittenFunctions]);
  const methods = collect(usable.filter(isMethod), members, true);
  const functions = collect(usable, excluded, false);
  const factories = functions.filter(({ signatures }) => signatures.some((signature) => signature.factory));

  return {
    'tensor-methods.generated.ts': [
      header(version, 'The operators of LibTorch whose first argument is a tensor, as its methods.'),
      imports(['DType', 'DTypeOption', 'Device', 'Layout', 'MemoryFormat', 'Scalar', 'TensorOptions', 'tensorMark']),
      "/** LibTorch's operators as methods. Each call is checked against the schemas in its comment. */\n",
      'export interface TensorMethods {\n  /** @internal */\n  readonly [tensorMark]?: true;\n',
      ...methods.map(member),
      '}\n',
    ].join(''),
    'functions.generated.ts': [
      header(version, 'The operators of LibTorch as functions.'),
      imports(['DType', 'DTypeOption', 'Device', 'Layout', 'MemoryFormat', 'Scalar', 'TensorOptions']),
      "/** LibTorch's operators as functions. Each call is checked against the schemas in its comment. */\n",
      'export interface TorchFunctions {\n',
      ...functions.map(member),
      '}\n',
    ].join(''),
    'names.generated.ts': [
      header(version, "The operators' names, for attaching them at import; `names.ts` unpacks them."),
      nameList('methodNames', 'The operators that are methods of `Tensor`.', namesOf(methods)),
      nameList('functionNames', 'The operators that are functions of `torch`.', namesOf(functions)),
      nameList(
        'factoryNames',
        'Those that make a tensor by `TensorOptions` and so know `requiresGrad`.',
        namesOf(factories),
      ),
      nameList(
        'irregularArguments',
        'The arguments whose name `snakeCase` does not give back.',
        irregularArguments(all),
      ),
      `/** The members of \`Tensor\` that are written by hand, in camelCase. */\n`,
      `export const handWrittenMembers = [\n${handWrittenMembers.map((name) => `  '${name}',\n`).join('')}] as const;\n`,
    ].join(''),
  };
}

function collect(schemas: readonly Schema[], excluded: ReadonlySet<string>, asMethod: boolean): Operator[] {
  const groups = new Map<string, Schema[]>();
  for (const schema of schemas) {
    if (excluded.has(camelCase(schema.name))) continue;
    const group = groups.get(schema.name);
    if (group) group.push(schema);
    else groups.set(schema.name, [schema]);
  }
  const operators: Operator[] = [];
  for (const [name, group] of groups) {
    group.sort((a, b) => rank(a) - rank(b) || compare(a.overload, b.overload));
    const signatures = simplify(
      group
        .flatMap((schema) => signaturesOf(schema) ?? [])
        .filter((signature) => !asMethod || signature.parameters[0]?.name === 'self')
        .map((signature) => (asMethod ? { ...signature, parameters: signature.parameters.slice(1) } : signature)),
    );
    if (signatures.length > 0) operators.push({ name, camelName: camelCase(name), signatures });
  }
  operators.sort((a, b) => compare(a.camelName, b.camelName));
  operators.forEach((operator, i) => {
    if (operator.camelName === operators[i - 1]?.camelName) {
      throw new Error(`${operator.name} and ${operators[i - 1].name} have the same name in camelCase`);
    }
  });
  return operators;
}

/** The plain overload first, then those for tensors: the first signature is what an editor shows and completes by. */
function rank({ overload }: Schema): number {
  return overload === '' ? 0 : overload.startsWith('Tensor') ? 1 : 2;
}

/** By code units, so that the order is the same on every machine. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function header(version: string, what: string): string {
  return (
    `// Generated by scripts/generate-types.ts from the operator schemas of LibTorch ${version}. Do not edit.\n` +
    `/** ${what} */\n`
  );
}

function imports(types: readonly string[]): string {
  return (
    `import type { Generator } from './random';\n` +
    `import type { Tensor } from './tensor';\n` +
    `import type { ${types.join(', ')} } from './types';\n\n`
  );
}

function member(operator: Operator): string {
  return operator.signatures
    .map(
      (signature) =>
        `${comment(signature)}  ${operator.camelName}(${parameterList(signature)}): ${signature.result};\n`,
    )
    .join('');
}

function comment({ schemas }: Signature): string {
  const lines = schemas.map((schema) => `\`${schema.replace(/^aten::/, '').replace(/\*\//g, '* /')}\``);
  return lines.length === 1
    ? `  /** ${lines[0]} */\n`
    : `  /**\n${lines.map((line) => `   * - ${line}\n`).join('')}   */\n`;
}

function parameterList(signature: Signature): string {
  const parts = signature.parameters.map((parameter) => property(parameter, true));
  if (signature.options.length > 0) {
    const required = signature.options.some((option) => !option.optional);
    parts.push(`options${required ? '' : '?'}: ${optionsType(signature)}`);
  }
  return parts.join(', ');
}

/** Options that could be mistaken for a tensor's properties go through a named type that refuses tensors. */
function optionsType({ options, factory }: Signature): string {
  const shared = factory ? ['dtype', 'layout', 'device', 'pinMemory', 'requiresGrad'] : ['dtype'];
  const base = factory ? 'TensorOptions' : 'DTypeOption';
  const isShared = (option: Parameter) => shared.includes(option.name) && option.optional;
  const own = options.filter((option) => !isShared(option));
  const inline = own.length > 0 ? [`{ ${own.map((option) => property(option, false)).join('; ')} }`] : [];
  return [...inline, ...(own.length < options.length ? [base] : [])].join(' & ');
}

function property({ name, type, optional }: Parameter, positional: boolean): string {
  // An argument that LibTorch lets be absent may be undefined as well as null.
  const union = type.includes('null') && !optional ? [...type, 'undefined'] : type;
  return `${positional && reserved.has(name) ? `${name}_` : name}${optional ? '?' : ''}: ${union.join(' | ')}`;
}

function namesOf(operators: readonly Operator[]): string[] {
  return operators.map(({ name }) => name);
}

/** Also of private operators: `ops` takes keywords for them too. */
function irregularArguments(schemas: readonly Schema[]): string[] {
  const names = [...new Set(schemas.flatMap((schema) => schema.arguments.map(({ name }) => name)))].sort(compare);
  const byKeyword = new Map<string, string>();
  for (const name of names) {
    const keyword = camelCase(name);
    const other = byKeyword.get(keyword);
    if (other !== undefined) throw new Error(`The arguments ${name} and ${other} have the same name in camelCase`);
    byKeyword.set(keyword, name);
  }
  return names.filter((name) => snakeCase(camelCase(name)) !== name);
}

function nameList(constant: string, what: string, names: readonly string[]): string {
  const lines: string[] = [];
  let line = '';
  for (const name of names) {
    if (line.length + name.length >= 118) {
      lines.push(line.trimEnd());
      line = '';
    }
    line += `${name} `;
  }
  lines.push(line.trimEnd());
  return `/** ${what} Unpack with \`unpackNames\`. */\nexport const ${constant}: string = \`\n${lines.join('\n')}\n\`;\n\n`;
}
