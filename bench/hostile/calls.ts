/** Random calls of operators, with arguments of the right types and every kind of hostile value. */
import { parseSchema, type Schema } from '../../scripts/types/schema';

/** A value as JSON tells it, so that a call can be printed and made again. */
export type Described =
  | null
  | boolean
  | number
  | string
  | { bigint: string }
  | { number: 'NaN' | 'Infinity' | '-Infinity' }
  | { complex: [number, number] }
  | { tensor: TensorDescription }
  | { generator: number }
  | { letters: number }
  | { object: ObjectName }
  | Described[];

/** The objects of LibTorch that operators take, by the last part of their type's name in schemas. */
export const objectTypes = {
  linear: 'quantized.LinearPackedParamsBase',
  conv2d: 'quantized.Conv2dPackedParamsBase',
  conv3d: 'quantized.Conv3dPackedParamsBase',
  embedding: 'quantized.EmbeddingPackedParamsBase',
  cell: 'rnn.CellParamsBase',
  sparseLinear: 'sparse.LinearPackedParamsBase',
  preparedConv: 'mkldnn.ConvOpContext',
  storage: 'Storage',
} as const;

export type ObjectName = keyof typeof objectTypes;

const objectNames = Object.keys(objectTypes) as ObjectName[];

export interface TensorDescription {
  shape: number[];
  dtype: string;
  /** What the elements are. */
  fill: 'counting' | 'normal' | 'hostile' | 'zero' | 'huge';
  form:
    | 'plain'
    | 'transposed'
    | 'expanded'
    | 'sparse'
    | 'csr'
    | 'quantized'
    | 'meta'
    | 'gradient'
    | 'channelsLast'
    | 'sliced';
}

export interface Call {
  operator: string;
  positional: Described[];
  keyword: Record<string, Described>;
}

/** Numbers that follow from a seed alone (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Maker {
  constructor(private readonly random: () => number) {}

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)]!;
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  integer(): Described {
    if (this.chance(0.75)) return this.pick([0, 1, 2, 3, -1, 1, 0]);
    return this.pick<Described>([
      4,
      5,
      7,
      -2,
      -3,
      -5,
      64,
      100,
      1000,
      65536,
      2 ** 31 - 1,
      -(2 ** 31),
      2 ** 32,
      2 ** 40,
      -(2 ** 40),
      2 ** 53 - 1,
      { bigint: '9223372036854775807' },
      { bigint: '-9223372036854775808' },
    ]);
  }

  float(): Described {
    return this.pick<Described>([
      0.5,
      1.5,
      0,
      1,
      -1,
      2,
      1e-5,
      1e308,
      1e-320,
      -0.5,
      { number: 'NaN' },
      { number: 'Infinity' },
      { number: '-Infinity' },
    ]);
  }

  tensor(): Described {
    const shape = this.pick([
      [],
      [0],
      [1],
      [3],
      [4],
      [2, 3],
      [3, 3],
      [4, 4],
      [0, 3],
      [3, 0],
      [2, 3, 4],
      [1, 1, 1],
      [2, 0, 4],
      [1, 1, 5, 5],
      [2, 3, 4, 4],
      [2, 4, 4, 4],
      [1, 2, 3, 3, 3],
      [1, 1, 1, 1, 1, 1, 2],
    ]);
    const dtype = this.chance(0.55)
      ? 'float32'
      : this.pick([
          'float64',
          'int64',
          'int64',
          'bool',
          'uint8',
          'int32',
          'bfloat16',
          'float16',
          'complex64',
          'complex128',
          'int8',
          'int16',
        ]);
    const fill = this.chance(0.6)
      ? this.pick(['counting', 'normal'] as const)
      : this.pick(['hostile', 'zero', 'huge'] as const);
    const form = this.chance(0.7)
      ? ('plain' as const)
      : this.pick([
          'transposed',
          'expanded',
          'sparse',
          'csr',
          'quantized',
          'meta',
          'gradient',
          'channelsLast',
          'sliced',
        ] as const);
    return { tensor: { shape, dtype, fill, form } };
  }

  list(item: () => Described, most: number): Described[] {
    return Array.from({ length: Math.floor(this.random() * (most + 1)) }, item);
  }

  /** A value of another type than the one that is asked for. */
  wrong(): Described {
    return this.pick<() => Described>([
      () => null,
      () => this.tensor(),
      () => [this.tensor(), null],
      () => [this.integer(), this.float()],
      () => [[1, 2], ['x']],
      () => this.integer(),
      () => this.value('str'),
      () => this.value('Generator'),
      () => ({ object: this.pick(objectNames) }),
    ])();
  }

  value(type: string): Described {
    if (this.chance(0.02)) return this.wrong();
    if (type.endsWith('?')) return this.chance(0.35) ? null : this.value(type.slice(0, -1));
    const list = /^(.*)\[(\d*)\]$/.exec(type);
    if (list) {
      const [, element, count] = list;
      const item = (): Described => this.value(element!);
      if (count !== '' && this.chance(0.8)) return Array.from({ length: Number(count) }, item);
      return this.list(item, 4);
    }
    switch (type) {
      case 'Tensor':
        return this.tensor();
      case 'int':
      case 'SymInt':
        return this.integer();
      case 'float':
        return this.float();
      case 'bool':
        return this.chance(0.5);
      case 'Scalar':
        return this.chance(0.2)
          ? this.pick<Described>([true, { complex: [1, -2] }])
          : this.chance(0.5)
            ? this.integer()
            : this.float();
      case 'str':
        return this.pick<Described>([
          '',
          'mean',
          'none',
          'sum',
          'constant',
          'reflect',
          'ij',
          'nearest',
          'linear',
          'tanh',
          'floor',
          'x',
          { letters: 5000 },
        ]);
      case 'ScalarType':
        return this.pick([
          'float32',
          'float64',
          'int64',
          'bool',
          'bfloat16',
          'complex64',
          'qint8',
          'uint8',
          'float8_e5m2',
          'bits8',
        ]);
      case 'Layout':
        return this.pick(['strided', 'sparse_coo', 'sparse_csr', 'mkldnn', 'jagged', 'sparse_bsr']);
      case 'Device':
        return this.pick(['cpu', 'cpu', 'meta', 'cuda']);
      case 'MemoryFormat':
        return this.pick(['contiguous_format', 'preserve_format', 'channels_last', 'channels_last_3d']);
      case 'Generator':
        return { generator: 7 };
      default: {
        const right = objectNames.find((name) => type.endsWith(objectTypes[name]));
        if (right !== undefined && this.chance(0.8)) return { object: right };
        return this.chance(0.5) ? { object: this.pick(objectNames) } : this.pick<Described>([null, 1, 'x', []]);
      }
    }
  }
}

/** The `number`th random call of a schema; the same for the same seed. */
export function makeCall(schema: Schema, seed: number, number: number): Call {
  let mixed = seed;
  for (const character of schema.text) mixed = (Math.imul(mixed, 31) + character.charCodeAt(0)) >>> 0;
  const maker = new Maker(randomFrom((mixed + Math.imul(number, 0x9e3779b1)) >>> 0));
  const positional: Described[] = [];
  const keyword: Record<string, Described> = {};
  // Most calls should get past the first checks: arguments often have one shape and dtype.
  const common = maker.chance(0.5) ? maker.tensor() : undefined;
  for (const argument of schema.arguments) {
    if (argument.default !== undefined && maker.chance(0.4)) {
      if (!argument.keywordOnly) break;
      continue;
    }
    const isTensor = argument.type === 'Tensor';
    const value = isTensor && common !== undefined && maker.chance(0.8) ? common : maker.value(argument.type);
    if (argument.keywordOnly) keyword[argument.name] = value;
    else positional.push(value);
  }
  return { operator: operatorOf(schema), positional, keyword };
}

/** The schemas that are tried: those of the operators that need no process group, whose names fit the regular expression. */
export function triedSchemas(texts: readonly string[], only = ''): Schema[] {
  const pattern = new RegExp(only);
  return texts
    .filter((text) => !text.includes('(...)') && !/^(c10d|_c10d|symm_mem|_dtensor)/.test(text))
    .map(parseSchema)
    .filter((schema) => pattern.test(operatorOf(schema)));
}

/** `aten::add.Tensor`; a plain overload is called `default`. */
export function operatorOf({ namespace, name, overload }: Schema): string {
  return `${namespace}::${name}.${overload === '' ? 'default' : overload}`;
}

function valueText(value: Described): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  if ('bigint' in value) return `${value.bigint}n`;
  if ('number' in value) return value.number;
  if ('complex' in value) return `{ re: ${String(value.complex[0])}, im: ${String(value.complex[1])} }`;
  if ('generator' in value) return 'new Generator()';
  if ('letters' in value) return `'a'.repeat(${String(value.letters)})`;
  if ('object' in value) return value.object;
  const { shape, dtype, fill, form } = value.tensor;
  const words = [dtype, `[${shape.join(', ')}]`];
  if (form !== 'plain') words.unshift(form);
  if (fill !== 'counting' && fill !== 'normal') words.push(fill);
  return `tensor(${words.join(' ')})`;
}

/** A call as one line to read: `ops.aten.add.Tensor(tensor(float32 [2, 3]), 1, { alpha: 2 })`. */
export function callText({ operator, positional, keyword }: Call): string {
  const args = positional.map(valueText);
  const names = Object.entries(keyword).map(([name, value]) => `${name}: ${valueText(value)}`);
  if (names.length > 0) args.push(`{ ${names.join(', ')} }`);
  return `ops.${operator.replace('::', '.')}(${args.join(', ')})`;
}
