import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  InvalidArgumentError,
  memory,
  scope,
  slice,
  Slice,
  torch,
  TorchError,
  TorchIndexError,
  TorchValueError,
  type DType,
  type IndexItem,
  type IndexValue,
  type NestedArray,
  type Tensor,
} from '../../src/torch';
import { golden } from '../support/golden';

type Range = [start: number | null, end: number | null, step: number | null];

type JsonItem = null | NestedArray | '...' | { slice: Range } | { tensor: NestedArray; dtype: DType };

interface Case {
  shape: number[];
  index: JsonItem[];
  error?: string;
  read: { shape: number[]; values: number[]; gradient: number[]; isView: boolean | null };
  valueShape: number[];
  write: { values: number[]; baseGradient: number[]; valueGradient: number[] };
  accumulate: { values: number[]; valueGradient: number[] };
}

function itemOf(item: JsonItem): IndexItem {
  if (item === null || typeof item !== 'object' || Array.isArray(item)) return item as IndexItem;
  if ('tensor' in item) return torch.tensor(item.tensor, { dtype: item.dtype });
  const [start, end, step] = (item as { slice: Range }).slice;
  return slice(start, end, step ?? 1);
}

const numbers = (tensor: Tensor | null): number[] => Array.from(tensor!.dataSync(), Number);

/** first, first + step, ... as float64. */
function counted(shape: readonly number[], first: number, step: number): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  return torch.arange(count, { dtype: 'float64' }).mul(step).add(first).reshape(shape);
}

describe('indexing as PyTorch', () => {
  const { cases } = golden<{ cases: Case[] }>('indexing').values;
  const right = cases.filter(({ error }) => error === undefined);
  const each = (body: (one: Case, index: IndexItem[]) => void): void => {
    for (const one of right) {
      scope(() => {
        try {
          body(one, one.index.map(itemOf));
        } catch (error) {
          throw new Error(`at(${JSON.stringify(one.index)}) of shape [${one.shape.join(', ')}]`, { cause: error });
        }
      });
    }
  };

  it('reads parts, as views where PyTorch makes views, and their gradients', () => {
    assert.ok(right.length >= 400);
    each(({ shape, read }, index) => {
      const x = counted(shape, 0, 1).requiresGrad_();
      const part = x.at(...index);
      assert.deepEqual([part.shape, numbers(part)], [read.shape, read.values]);
      part
        .mul(counted(part.shape, 1, 1))
        .sum()
        .backward();
      assert.deepEqual(numbers(x.grad), read.gradient);
      if (read.isView === null) return;
      part.detach().fill_(-1);
      assert.equal(x.eq(-1).any().itemSync() === 1, read.isView && read.values.length > 0);
    });
  });

  it('writes parts, and gives the value its gradient', () => {
    each(({ shape, valueShape, write }, index) => {
      const weight = counted(shape, 1, 1);
      const base = counted(shape, 100, 100).requiresGrad_();
      const value = counted(valueShape, -1, -1).requiresGrad_();
      const x = base.mul(1);
      assert.equal(x.setAt_(value, ...index), x);
      assert.deepEqual(numbers(x), write.values);
      x.mul(weight).sum().backward();
      assert.deepEqual([numbers(base.grad), numbers(value.grad)], [write.baseGradient, write.valueGradient]);
    });
  });

  it('adds to parts, again where positions occur again', () => {
    each(({ shape, valueShape, accumulate }, index) => {
      const base = counted(shape, 0, 100).requiresGrad_();
      const value = counted(valueShape, 1, 1).requiresGrad_();
      const x = base.mul(1);
      assert.equal(x.addAt_(value, ...index), x);
      assert.deepEqual(numbers(x), accumulate.values);
      x.mul(counted(shape, 1, 1))
        .sum()
        .backward();
      assert.deepEqual(numbers(value.grad), accumulate.valueGradient);
    });
  });

  it('refuses what PyTorch refuses', () => {
    const wrong = cases.filter(({ error }) => error !== undefined);
    assert.ok(wrong.length >= 15);
    for (const { shape, index, error } of wrong) {
      scope(() => {
        const x = counted(shape, 0, 1);
        const write = (): unknown => x.setAt_(-1, ...index.map(itemOf));
        assert.throws(() => x.at(...index.map(itemOf)), TorchIndexError, `${JSON.stringify(index)}: ${error!}`);
        assert.throws(write, TorchIndexError, JSON.stringify(index));
        assert.deepEqual(numbers(x), numbers(counted(shape, 0, 1)), 'nothing was written');
      });
    }
  });
});

/** Items of the property test, none of which needs a tensor to be understood. */
type PlainItem = number | null | '...' | Slice | number[] | boolean[];

/** The shape of a part, and the flat positions that it is made of, by one loop over its elements. */
function naivePart(shape: readonly number[], items: readonly PlainItem[]): { shape: number[]; places: number[] } {
  type Dimension = { source: number; pick: readonly number[]; isList: boolean };
  const isMask = (item: PlainItem): item is boolean[] => Array.isArray(item) && typeof item[0] === 'boolean';
  const taken = items.filter((item) => item !== null && item !== '...').length;
  const fixed = new Map<number, number>();
  const dimensions: Dimension[] = [];
  const whole = (source: number): Dimension => ({
    source,
    pick: Array.from({ length: shape[source]! }, (_, i) => i),
    isList: false,
  });
  let source = 0;
  for (const item of items) {
    if (item === null) dimensions.push({ source: -1, pick: [0], isList: false });
    else if (item === '...') {
      for (let i = taken; i < shape.length; i++) dimensions.push(whole(source++));
    } else {
      const size = shape[source]!;
      const fromEnd = (position: number): number => (position < 0 ? position + size : position);
      if (typeof item === 'number') fixed.set(source, fromEnd(item));
      else if (item instanceof Slice) {
        const [start, end] = [fromEnd(item.start ?? 0), fromEnd(item.end ?? size)];
        const pick = whole(source).pick.filter(
          (i) => i >= start && i < end && (i - Math.max(start, 0)) % item.step === 0,
        );
        dimensions.push({ source, pick, isList: false });
      } else {
        const pick = isMask(item) ? item.flatMap((on, i) => (on ? [i] : [])) : item.map(fromEnd);
        dimensions.push({ source, pick, isList: true });
      }
      source++;
    }
  }
  while (source < shape.length) dimensions.push(whole(source++));
  // The lists are of one length, or of one element: they make one dimension together.
  const lists = dimensions.filter(({ isList }) => isList);
  const common = lists.reduce((most, { pick }) => (most === 1 ? pick.length : most), 1);
  const first = dimensions.findIndex(({ isList }) => isList);
  const areNeighbours = dimensions.slice(first, first + lists.length).every(({ isList }) => isList);
  const others = dimensions.filter(({ isList }) => !isList);
  const before = lists.length === 0 ? 0 : areNeighbours ? first : 0;
  const sizes = others.map(({ pick }) => pick.length);
  if (lists.length > 0) sizes.splice(before, 0, common);
  const count = sizes.reduce((product, size) => product * size, 1);
  const places = Array.from({ length: count }, (_, element) => {
    const at = sizes.map(() => 0);
    for (let i = sizes.length - 1, rest = element; i >= 0; i--) {
      at[i] = rest % sizes[i]!;
      rest = Math.floor(rest / sizes[i]!);
    }
    const coordinate = shape.map((_, i) => fixed.get(i) ?? 0);
    const [along] = lists.length > 0 ? at.splice(before, 1) : [0];
    others.forEach(({ source: dimension, pick }, i) => {
      if (dimension >= 0) coordinate[dimension] = pick[at[i]!]!;
    });
    for (const { source: dimension, pick } of lists) coordinate[dimension] = pick[pick.length === 1 ? 0 : along!]!;
    return coordinate.reduce((flat, position, i) => flat * shape[i]! + position, 0);
  });
  return { shape: sizes, places };
}

const plainIndex = fc
  .tuple(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 3 }))
  .chain(([shape, length]) => {
    const itemOfSize = (size: number): fc.Arbitrary<PlainItem> => {
      const position = fc.integer({ min: -size, max: size - 1 });
      const bound = fc.option(fc.integer({ min: -size, max: size }));
      const mask = fc
        .shuffledSubarray([...Array(size).keys()], {
          minLength: Math.min(length, size),
          maxLength: Math.min(length, size),
        })
        .map((on) => Array.from({ length: size }, (_, i) => on.includes(i)));
      const items: fc.Arbitrary<PlainItem>[] = [
        position,
        fc.tuple(bound, bound, fc.integer({ min: 1, max: 3 })).map((bounds) => slice(...bounds)),
        fc.array(position, { minLength: length, maxLength: length }),
        fc.tuple(position),
      ];
      // A shorter mask would not go together with lists of this length.
      if (length <= size) items.push(mask);
      return fc.oneof(...items);
    };
    const used = fc
      .integer({ min: 0, max: shape.length })
      .chain((count) => fc.tuple(...shape.slice(0, count).map(itemOfSize)));
    const extra = fc.array(fc.tuple(fc.nat(), fc.constant(null)), { maxLength: 2 });
    return fc.record({
      shape: fc.constant(shape),
      items: fc.tuple(used, extra, fc.boolean()).map(([items, news, endsOpen]) => {
        const all: PlainItem[] = [...items];
        for (const [place, item] of news) all.splice(place % (all.length + 1), 0, item);
        return endsOpen ? [...all, '...' as const] : all;
      }),
    });
  });

describe('indexing', () => {
  const x = torch.arange(24).reshape([2, 3, 4]).to('float32');

  it('does to parts what a loop over their elements does', () => {
    fc.assert(
      fc.property(plainIndex, ({ shape, items }) => {
        scope(() => {
          const { shape: sizes, places } = naivePart(shape, items);
          const y = counted(shape, 0, 1);
          const part = y.at(...items);
          assert.deepEqual([part.shape, numbers(part)], [sizes, places]);
          const written = numbers(y);
          const sums = numbers(y);
          places.forEach((place, i) => {
            written[place] = -1 - i;
            sums[place]! += 1 + i;
          });
          const value = counted(sizes, -1, -1);
          assert.deepEqual(numbers(y.clone().setAt_(value, ...items)), written);
          assert.deepEqual(numbers(y.clone().addAt_(value.neg(), ...items)), sums);
        });
      }),
      { seed: 5, numRuns: 400 },
    );
  });

  it('takes positions and masks as arrays of every kind, and 64-bit integers', () => {
    const wanted = x.at(torch.tensor([1n, 0n]), 2).toArraySync();
    const index: IndexItem[] = [[1, 0], [1n, 0n], [-1, -2], new Int32Array([1, 0]), new BigInt64Array([1n, 0n])];
    for (const item of [...index, new Uint8Array([1, 0]), torch.tensor([1, 0], { dtype: 'int32' })]) {
      assert.deepEqual(x.at(item, 2n).toArraySync(), wanted);
    }
    assert.deepEqual(x.at([[0], [1]], 0, [[1, 2]]).shape, [2, 2]);
    assert.deepEqual(x.at([false, true], -1n, 0).toArraySync(), [20]);
    assert.deepEqual(x.at(torch.tensor(1n), new BigUint64Array([2n])).toArraySync(), [[20, 21, 22, 23]]);
  });

  it('gives a view of its own even of everything', () => {
    const y = torch.zeros([2]);
    const all = y.at();
    all.add_(1).dispose();
    all.dispose();
    assert.deepEqual(y.toArraySync(), [1, 1]);
  });

  it('writes numbers, booleans, complex numbers and arrays, converted to the dtype', () => {
    const of = (dtype: DType, value: IndexValue): unknown =>
      torch.zeros([3], { dtype }).setAt_(value, slice(1)).toArraySync();
    assert.deepEqual(of('float32', 2), [0, 2, 2]);
    assert.deepEqual(of('float32', true), [0, 1, 1]);
    assert.deepEqual(of('float64', 0.1), [0, 0.1, 0.1]);
    assert.deepEqual(of('bool', 3), [false, true, true]);
    assert.deepEqual(of('int64', 2n ** 60n + 1n), [0n, 2n ** 60n + 1n, 2n ** 60n + 1n]);
    assert.deepEqual(of('int64', [2n ** 60n + 1n, 1n]), [0n, 2n ** 60n + 1n, 1n]);
    assert.deepEqual(of('int64', [3, 4]), [0n, 3n, 4n]);
    assert.deepEqual(of('int32', torch.tensor([1.5, -1.5])), [0, 1, -1]);
    assert.deepEqual(of('float64', [0.1, 0.2]), [0, 0.1, 0.2]);
    assert.deepEqual(of('float64', new Float32Array([0.5, 2])), [0, 0.5, 2]);
    assert.deepEqual(of('complex64', { re: 1, im: -2 }), [
      [0, 0],
      [1, -2],
      [1, -2],
    ]);
    const y = torch
      .zeros([2, 3])
      .setAt_([[1], [2]], '...', [0, 2])
      .setAt_(9, x.at('...', 0).gt(4));
    assert.deepEqual(y.toArraySync(), [
      [1, 0, 9],
      [9, 9, 9],
    ]);
    assert.deepEqual(torch.zeros([3]).addAt_(1, [0, 2, 0, 0]).toArraySync(), [3, 0, 1]);
    assert.deepEqual(torch.ones([2]).setAt_(5).addAt_([1, 2]).toArraySync(), [6, 7]);
  });

  it('does not convert tensors under positions, as LibTorch', () => {
    const double = torch.ones([2], { dtype: 'float64' });
    assert.throws(() => torch.zeros([3]).setAt_(double, [0, 1]), /dtypes match, got Float .* Double/);
    assert.deepEqual(torch.zeros([3]).setAt_(double, slice(0, 2)).toArraySync(), [1, 1, 0]);
  });

  it('refuses to write into a leaf that needs gradients', () => {
    const leaf = torch.zeros([2], { requiresGrad: true });
    assert.throws(() => leaf.setAt_(1, 0), /a view of a leaf Variable that requires grad/);
    assert.throws(() => leaf.setAt_(1, [0]), /a leaf Variable that requires grad/);
  });

  const wrong: [name: string, () => unknown, RegExp][] = [
    ['an entry', () => x.at(2), /^index 2 is out of range for dimension 0 of shape \[2, 3, 4\]$/],
    [
      'an entry after a range',
      () => x.at(slice(), null, -4),
      /^index -4 is out of range for dimension 1 of shape \[2, 3, 4\]$/,
    ],
    ['a position in an array', () => x.at(0, [0, 3]), /^index 3 is out of range for dimension 1 of shape/],
    [
      'a position in a typed array',
      () => x.at('...', new Int8Array([-5])),
      /^index -5 is out of range for dimension 2 of/,
    ],
    [
      'a position in a tensor',
      () => x.at(0, torch.tensor([0n, 7n])),
      /^index 7 is out of range for dimension 1 of shape/,
    ],
    [
      'a negative one in a tensor',
      () => x.at([0], 0, torch.tensor([-5n])),
      /^index -5 is out of range for dimension 2 of/,
    ],
    ['a huge position', () => x.at(2n ** 70n), /^index 1180591620717411303424 is out of range for dimension 0/],
    ['a scalar tensor', () => x.at(torch.tensor(9n)), /^index 9 is out of range for dimension 0/],
    ['too many items', () => x.at(0, 0, 0, 0), /^an index of 4 dimensions does not fit shape \[2, 3, 4\]$/],
    [
      'too large a mask',
      () => torch.zeros([2]).at([[true], [true]]),
      /^an index of 2 dimensions does not fit shape \[2\]$/,
    ],
    [
      'an entry of none',
      () => torch.tensor(1).at(0),
      /does not fit shape \[\]; read its one element with itemSync\(\)$/,
    ],
    ['two rests', () => x.at('...', '...'), /^an index has at most one '\.\.\.'$/],
    [
      'a mask',
      () => x.at(0, [true, false]),
      /^a mask of shape \[2\] does not fit shape \[2, 3, 4\] from dimension 1 on$/,
    ],
    [
      'lists of unlike lengths',
      () => x.at([0, 1], [0, 1, 2]),
      /could not be broadcast together with shapes \[2\], \[3\]/,
    ],
    ['a fraction', () => x.at(0, 1.5), /^index item 1 holds 1.5, which is no whole number$/],
    ['a fraction in an array', () => x.at([0, NaN]), /^index item 0 holds NaN, which is no whole number$/],
    ['ragged arrays', () => x.at([[0], [1, 0]]), /^index item 0: the nested arrays are ragged/],
    ['mixed arrays', () => x.at([true, 1]), /^index item 0: the data mixes booleans and numbers/],
    [
      'an array of floats',
      () => x.at(new Float32Array(1) as never),
      /^index item 0 is a Float32Array; positions come in/,
    ],
    [
      'a tensor of floats',
      () => x.at(null, torch.zeros([1])),
      /^index item 1 is a tensor of float32; positions are int64 or/,
    ],
    [
      'undefined',
      () => x.at(undefined as never),
      /^index item 0 is undefined; an index takes integers, slice\(\), null/,
    ],
    ['a name', () => x.at(':' as never), /^index item 0 is ':'; an index takes integers/],
    [
      'a backward slice',
      () => slice(null, null, -1),
      /^the step of a slice is a whole number from 1, not -1: .* flip\(\)/,
    ],
    ['a slice that stands still', () => slice(0, 1, 0), /^the step of a slice is a whole number from 1, not 0$/],
    ['a slice of fractions', () => slice(0, 1.5), /^a slice starts and ends at whole numbers or null, not at 1.5$/],
  ];
  for (const [name, body, message] of wrong) {
    it(`refuses ${name}`, () => {
      const before = memory().liveTensors;
      scope(() => {
        assert.throws(body, (error: TorchIndexError) => {
          assert.match(error.message, message);
          assert.equal(error.code, 'INDEX');
          return error instanceof TorchIndexError;
        });
      });
      assert.equal(memory().liveTensors, before);
    });
  }

  it('refuses values that do not fit, before anything is written', () => {
    const y = torch.zeros([2, 3]);
    assert.throws(
      () => y.setAt_([1, 2], 0),
      (error: Error) =>
        error instanceof TorchValueError &&
        error.message === 'a value of shape [2] does not fit the part of shape [3] that the index picks',
    );
    assert.throws(() => y.setAt_(torch.ones([2, 3]), 0), TorchValueError);
    assert.throws(() => y.setAt_([1, 2], [0, 1]), /value tensor of shape \[2\] cannot be broadcast .* \[2, 3\]/);
    assert.throws(() => y.setAt_('1' as never, 0), InvalidArgumentError);
    assert.throws(() => torch.zeros([1], { dtype: 'int64' }).setAt_([0.5]), InvalidArgumentError);
    assert.throws(() => torch.zeros([1], { dtype: 'int8' }).setAt_(300), TorchError);
    assert.throws(
      () => y.setAt_(1, torch.tensor([0n, 1n, 2n])),
      /^TorchIndexError: index 2 is out of range for dimension 0/,
    );
    assert.equal(y.abs().sum().itemSync(), 0);
  });

  it('frees all that it makes on the way', () => {
    const y = torch.zeros([2, 3, 4]);
    const positions = torch.tensor([0n, 1n]);
    const given = torch.ones([1, 1, 4]);
    const before = memory().liveTensors;
    y.at(0, slice(1), null).dispose();
    y.at(0, [true, false, true], '...', null).dispose();
    y.at(true, positions, slice(), [0]).dispose();
    y.setAt_(1, 0, slice(1), null)
      .setAt_(given, positions)
      .setAt_([[1, 2, 3, 4]], 0)
      .setAt_(new Int8Array(4), [[0]], 1);
    y.addAt_(1, 0, slice(1), null).addAt_(given, positions);
    assert.throws(() => y.at(0, slice(1), 4));
    assert.throws(() => y.at([0, 1], 0, torch.tensor([9n])));
    assert.throws(() => y.setAt_([1, 2], 0, [0, 1, 2]));
    assert.throws(() => y.setAt_([1, 2], 0));
    assert.equal(memory().liveTensors - before, 1, "the test's own tensor");
  });
});

describe('going through a tensor', () => {
  it('gives the entries of the first dimension, as views with gradients', () => {
    const x = counted([3, 2], 0, 1).requiresGrad_();
    const rows = [...x];
    assert.deepEqual(
      rows.map((row) => row.toArraySync()),
      x.toArraySync(),
    );
    rows[1]!.sum().backward();
    assert.deepEqual(numbers(x.grad), [0, 0, 1, 1, 0, 0]);
    const [first, ...rest] = torch.tensor([1, 2, 3]);
    assert.deepEqual([first!.shape, rest.length], [[], 2]);
    assert.deepEqual([...torch.zeros([0, 2])], []);
  });

  it('frees the entries that a loop does not reach', () => {
    const x = torch.zeros([5, 2]);
    const before = memory().liveTensors;
    for (const row of x) {
      assert.equal(memory().liveTensors - before, 5);
      row.dispose();
      break;
    }
    assert.equal(memory().liveTensors, before);
  });

  it('refuses a tensor of no dimensions', () => {
    assert.throws(() => [...torch.tensor(1)], /no dimensions .* itemSync\(\)/);
    assert.throws(() => [...torch.tensor(1)], InvalidArgumentError);
  });
});
