/**
 * A recipe's options: declared by their defaults, overridden on the command line (`--batch-size 128`) or from code
 * (`{ batchSize: 128 }`). Pure functions: nothing here needs a tensor.
 */
import { InvalidArgumentError } from '../torch/errors';

/** What an option can hold. A list is written `32,64,128` on the command line. */
export type OptionValue = number | string | boolean | readonly number[] | readonly string[];

/** An option with more to say than its default; made by {@link option} and {@link choice}. */
export class Option<T extends OptionValue = OptionValue> {
  constructor(
    readonly defaultValue: T,
    readonly description: string,
    readonly limits: OptionLimits & { choices?: readonly string[] } = {},
  ) {}
}

/** What the values of a number option (or of each item of a list of numbers) must be. */
export interface OptionLimits {
  /** Only whole numbers. Default: false. */
  integer?: boolean;
  /** The smallest value that is allowed. Default: none. */
  minimum?: number;
  /** Only values above this one; instead of `minimum`. Default: none. */
  above?: number;
  /** The largest value that is allowed. Default: none. */
  maximum?: number;
}

/** A recipe's options by name (camelCase): a plain default, or an {@link Option}. */
export type OptionDeclarations = Readonly<Record<string, OptionValue | Option>>;

/** The options of `kontrast train` itself; a recipe cannot have options of these names. */
export const RESERVED_OPTIONS: readonly string[] = [
  'out',
  'resume',
  'overwrite',
  'device',
  'seed',
  'threads',
  'help',
  'version',
];

/** `number` for the literal 256: a default says a type, not a value. */
type Widened<T> = T extends number
  ? number
  : T extends boolean
    ? boolean
    : T extends readonly number[]
      ? readonly number[]
      : T extends readonly string[]
        ? readonly string[]
        : T extends string
          ? string
          : never;

/** What a recipe's `build` gets: a value for each declared option, of its default's type. */
export type OptionValues<Declarations extends OptionDeclarations> = {
  readonly [Name in keyof Declarations]: Declarations[Name] extends Option<infer T> ? T : Widened<Declarations[Name]>;
};

/**
 * Declares an option with a description, and limits for numbers.
 *
 * @example
 * option(256, 'images a step', { integer: true, minimum: 2 })
 */
export function option<T extends OptionValue>(
  defaultValue: T,
  description: string,
  limits: OptionLimits = {},
): Option<Widened<T>> {
  return new Option(defaultValue as unknown as Widened<T>, description, limits);
}

/**
 * Declares an option that takes one of a few words. The first is the default.
 *
 * @example
 * choice(['adamw', 'sgd'], 'the optimiser')
 */
export function choice<const T extends string>(choices: readonly [T, ...T[]], description: string): Option<T> {
  return new Option<T>(choices[0], description, { choices });
}

/** The option's name on the command line: `batchSize` becomes `--batch-size`. */
export function optionFlag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** The text that the command line would take for a value. */
export function formatOption(value: OptionValue): string {
  return typeof value === 'object' ? value.join(',') : String(value);
}

/**
 * Reads a recipe's options from command-line words: `--name value`, `--name=value`, and for booleans `--name` and `--no-name`.
 *
 * @returns The options that were given, by name.
 * @throws {InvalidArgumentError} for an unknown option (with the nearest known one and the list), a missing value, a value of the wrong type
 *   or outside its limits, and a word that belongs to no option.
 */
export function parseOptions(declarations: OptionDeclarations, words: readonly string[]): Record<string, OptionValue> {
  const byFlag = new Map(Object.keys(declarations).map((name) => [optionFlag(name), name]));
  const given: Record<string, OptionValue> = {};
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    if (!word.startsWith('--') || word === '--') {
      throw new InvalidArgumentError(`unexpected argument '${word}': options are written --name value`);
    }
    const equals = word.indexOf('=');
    const flag = equals < 0 ? word : word.slice(0, equals);
    const positive = byFlag.get(flag);
    const name = positive ?? (flag.startsWith('--no-') ? byFlag.get(`--${flag.slice(5)}`) : undefined);
    const declared = name === undefined ? undefined : normalize(declarations[name]!);
    const isBoolean = typeof declared?.defaultValue === 'boolean';
    if (name === undefined || declared === undefined || (positive === undefined && !isBoolean)) {
      throw unknownOption(flag, declarations);
    }
    if (positive === undefined) {
      if (equals >= 0) throw new InvalidArgumentError(`option ${flag} takes no value`);
      given[name] = false;
    } else if (equals >= 0) {
      given[name] = parseValue(flag, declared, word.slice(equals + 1));
    } else if (isBoolean) {
      const next = words[index + 1];
      const spelled = next === 'true' || next === 'false';
      given[name] = !spelled || next === 'true';
      if (spelled) index++;
    } else {
      const next = words[++index];
      if (next === undefined) throw new InvalidArgumentError(`option ${flag} needs ${expectation(declared)}`);
      given[name] = parseValue(flag, declared, next);
    }
  }
  return given;
}

/**
 * Fills in the defaults and checks every override.
 *
 * @throws {InvalidArgumentError} for a name that the recipe lacks, a value of the wrong type or outside its limits.
 */
export function resolveOptions<Declarations extends OptionDeclarations>(
  declarations: Declarations,
  overrides: Readonly<Record<string, unknown>> = {},
): OptionValues<Declarations> {
  for (const [name, value] of Object.entries(overrides)) {
    if (!Object.hasOwn(declarations, name)) throw unknownOption(optionFlag(name), declarations);
    checkValue(optionFlag(name), normalize(declarations[name]!), value);
  }
  const entries = Object.entries(declarations).map(([name, declaration]) => [
    name,
    Object.hasOwn(overrides, name) ? overrides[name] : normalize(declaration).defaultValue,
  ]);
  return Object.fromEntries(entries) as OptionValues<Declarations>;
}

/** One line an option, for `--help`: flag with its kind of value, and description with default and limits. */
export function describeOptions(declarations: OptionDeclarations): { term: string; description: string }[] {
  return Object.entries(declarations).map(([name, declaration]) => {
    const declared = normalize(declaration);
    const flag = optionFlag(name);
    const { defaultValue, limits } = declared;
    const isBoolean = typeof defaultValue === 'boolean';
    const placeholder =
      typeof defaultValue === 'number' ? '<number>' : typeof defaultValue === 'string' ? '<text>' : '<list>';
    const kind = describeNumber(limits);
    const notes = [
      ...(limits.choices === undefined ? [] : [`one of ${limits.choices.join(', ')}`]),
      ...(kind === 'number' ? [] : [typeof defaultValue === 'object' ? `each a ${kind}` : kind]),
      `default: ${isBoolean ? (defaultValue ? 'on' : 'off') : formatOption(defaultValue)}`,
    ];
    return {
      term: isBoolean
        ? defaultValue
          ? `--no-${flag.slice(2)}`
          : flag
        : `${flag} ${limits.choices ? '<choice>' : placeholder}`,
      description: `${declared.description}${declared.description === '' ? '' : ' '}(${notes.join('; ')})`,
    };
  });
}

/** The known word with the fewest single-letter edits from `word`, when it is near enough to be meant. */
export function closest(word: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(1, Math.floor(Math.max(word.length, candidate.length) / 3)),
    )
    .sort((a, b) => a.distance - b.distance);
  return best?.candidate;
}

function normalize(declaration: OptionValue | Option): Option {
  return declaration instanceof Option ? declaration : new Option(declaration, '');
}

function unknownOption(flag: string, declarations: OptionDeclarations): InvalidArgumentError {
  const flags = Object.keys(declarations).map(optionFlag);
  const suggestion = closest(flag, [...flags, ...RESERVED_OPTIONS.map(optionFlag)]);
  return new InvalidArgumentError(
    `unknown recipe option ${flag}` +
      (suggestion === undefined ? '.' : `; did you mean ${suggestion}?`) +
      (flags.length === 0 ? ' This recipe has no options.' : ` The recipe's options are ${flags.join(', ')}.`),
  );
}

/** What a value must look like, for messages. */
function expectation({ defaultValue, limits }: Option): string {
  if (limits.choices !== undefined) return `one of ${limits.choices.join(', ')}`;
  const number = `a ${describeNumber(limits)}`;
  if (typeof defaultValue === 'number') return number;
  if (typeof defaultValue === 'boolean') return 'true or false';
  if (typeof defaultValue === 'string') return 'a text';
  return isNumberList(defaultValue) ? `a list such as 1,2,3, each item ${number}` : 'a list such as a,b,c';
}

/** `whole number of at least 1 and at most 7`, `number above 0`, … */
function describeNumber({ integer, minimum, above, maximum }: OptionLimits): string {
  const bounds = [
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(minimum === undefined ? [] : [`of at least ${minimum}`]),
    ...(maximum === undefined
      ? []
      : [above === undefined && minimum === undefined ? `of at most ${maximum}` : `at most ${maximum}`]),
  ];
  return [integer === true ? 'whole number' : 'number', ...(bounds.length === 0 ? [] : [bounds.join(' and ')])].join(
    ' ',
  );
}

/** A list's items are numbers when its default's are. An empty default cannot say, and stands for words. */
function isNumberList(defaultValue: OptionValue): boolean {
  return typeof defaultValue === 'object' && typeof defaultValue[0] === 'number';
}

function parseValue(flag: string, declared: Option, text: string): OptionValue {
  const { defaultValue } = declared;
  const toNumber = (item: string): number | string => (item.trim() === '' ? item : Number(item));
  let value: unknown = text;
  if (typeof defaultValue === 'number') value = toNumber(text);
  else if (typeof defaultValue === 'boolean') value = text === 'true' ? true : text === 'false' ? false : text;
  else if (typeof defaultValue === 'object') {
    const items = text === '' ? [] : text.split(',');
    value = isNumberList(defaultValue) ? items.map(toNumber) : items;
  }
  checkValue(flag, declared, value, text);
  return value;
}

function checkValue(
  flag: string,
  declared: Option,
  value: unknown,
  shown: string = JSON.stringify(value),
): asserts value is OptionValue {
  const { defaultValue, limits } = declared;
  const isAllowedNumber = (item: unknown): boolean =>
    typeof item === 'number' &&
    Number.isFinite(item) &&
    (limits.integer !== true || Number.isInteger(item)) &&
    item >= (limits.minimum ?? -Infinity) &&
    item > (limits.above ?? -Infinity) &&
    item <= (limits.maximum ?? Infinity);
  let good: boolean;
  if (typeof defaultValue === 'number') good = isAllowedNumber(value);
  else if (typeof defaultValue === 'object') {
    good =
      Array.isArray(value) &&
      value.every((item) => (isNumberList(defaultValue) ? isAllowedNumber(item) : typeof item === 'string'));
  } else {
    good = typeof value === typeof defaultValue && (limits.choices?.includes(String(value)) ?? true);
  }
  if (!good) throw new InvalidArgumentError(`option ${flag} needs ${expectation(declared)}, not ${shown}`);
}

/** Levenshtein's distance: single-letter insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
