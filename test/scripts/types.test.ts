import assert from 'node:assert/strict';
import { generate } from '../../scripts/types/emit';
import { parseSchema } from '../../scripts/types/schema';

/** The lines of the generated interface that declare the operator. */
function declarations(text: string, name: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith(`${name}(`));
}

function methodsOf(name: string, ...schemas: string[]): string[] {
  return declarations(generate(schemas, '2.13.0')['tensor-methods.generated.ts'], name);
}

function functionsOf(name: string, ...schemas: string[]): string[] {
  return declarations(generate(schemas, '2.13.0')['functions.generated.ts'], name);
}

describe('parseSchema', () => {
  it('reads names, types, defaults, keyword-only arguments and aliases', () => {
    const text =
      'aten::pad_it.mode(Tensor(a!) self, SymInt[2] pad=[1, 1], str mode="a, (b", *, Tensor(a -> *)[]? x=None) -> (Tensor(a!) values, int)';
    const schema = parseSchema(text);
    assert.deepEqual([schema.namespace, schema.name, schema.overload, schema.text], ['aten', 'pad_it', 'mode', text]);
    assert.deepEqual(schema.arguments, [
      { type: 'Tensor', name: 'self', default: undefined, keywordOnly: false, written: true },
      { type: 'SymInt[2]', name: 'pad', default: '[1, 1]', keywordOnly: false, written: false },
      { type: 'str', name: 'mode', default: '"a, (b"', keywordOnly: false, written: false },
      { type: 'Tensor[]?', name: 'x', default: 'None', keywordOnly: true, written: false },
    ]);
    assert.deepEqual(schema.results, [
      { type: 'Tensor', name: 'values' },
      { type: 'int', name: undefined },
    ]);
  });

  it('reads a schema without arguments or results', () => {
    const schema = parseSchema('aten::wait() -> ()');
    assert.deepEqual([schema.arguments, schema.results], [[], []]);
  });

  it('refuses what is not a schema', () => {
    assert.throws(() => parseSchema('add(Tensor self)'), /Not an operator schema: add\(Tensor self\)/);
    assert.throws(() => parseSchema('aten::f(...) -> Tensor'), /Not an argument: "\.\.\." in aten::f/);
  });
});

describe('generate', () => {
  it('joins overloads that differ in one type, so that a union of them is accepted', () => {
    assert.deepEqual(
      methodsOf(
        'add',
        'aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor',
        'aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
      ),
      [
        'add(other: Tensor | Scalar, options?: { alpha?: Scalar }): Tensor;',
        'add(other: Scalar, alpha?: Scalar): Tensor;',
      ],
    );
  });

  it('does not join overloads whose results differ', () => {
    assert.deepEqual(
      methodsOf(
        'max',
        'aten::max.other(Tensor self, Tensor other) -> Tensor',
        'aten::max.dim(Tensor self, int dim) -> (Tensor values, Tensor indices)',
      ),
      ['max(dim: number): readonly [values: Tensor, indices: Tensor];', 'max(other: Tensor): Tensor;'],
    );
  });

  it('drops an overload that another one covers', () => {
    assert.deepEqual(
      functionsOf(
        'count',
        'aten::count.start(Scalar start, Scalar end) -> Tensor',
        'aten::count.start_step(Scalar start, Scalar end, Scalar step=1) -> Tensor',
      ),
      [
        'count(start: Scalar, end: Scalar, step?: Scalar): Tensor;',
        'count(start: Scalar, end: Scalar, options?: { step?: Scalar }): Tensor;',
      ],
    );
  });

  it('lets every argument with a default be given by name from any place on', () => {
    assert.deepEqual(
      methodsOf('f', 'aten::f(Tensor self, int a, bool b=False, float? c=None, *, ScalarType? dtype=None) -> Tensor'),
      [
        'f(a: number, b?: boolean, c?: number | null, options?: DTypeOption): Tensor;',
        'f(a: number, b: boolean, options?: { c?: number | null } & DTypeOption): Tensor;',
        'f(a: number, options?: { b?: boolean; c?: number | null } & DTypeOption): Tensor;',
      ],
    );
  });

  it('keeps a required keyword required', () => {
    assert.deepEqual(methodsOf('g', 'aten::g(Tensor self, int a=0, *, str reduce) -> Tensor'), [
      'g(a: number, options: { reduce: string }): Tensor;',
      'g(options: { a?: number; reduce: string }): Tensor;',
    ]);
  });

  it('gives factories the options of a new tensor', () => {
    const schema =
      'aten::zeros(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor';
    assert.deepEqual(functionsOf('zeros', schema), [
      'zeros(size: readonly number[], options?: TensorOptions): Tensor;',
    ]);
    assert.match(generate([schema], '2.13.0')['names.generated.ts'], /factoryNames: string = `\nzeros\n`/);
  });

  it('translates every kind of type', () => {
    assert.deepEqual(
      methodsOf(
        'k',
        'aten::k(Tensor self, Tensor? t, Tensor[] ts, Tensor?[] os, int[2] p, SymInt[] s, float[]? f, bool[3] m, str[] n, ' +
          'Device d, Layout l, MemoryFormat h, Generator? g) -> (Tensor, Tensor[], SymInt, float, bool, Scalar)',
      ),
      [
        'k(t: Tensor | null | undefined, ts: readonly Tensor[], os: readonly (Tensor | null)[], p: number | readonly number[], ' +
          's: readonly number[], f: readonly number[] | null | undefined, m: readonly boolean[], n: readonly string[], ' +
          'd: Device, l: Layout, h: MemoryFormat, g: Generator | null | undefined): ' +
          'readonly [Tensor, Tensor[], number, number, boolean, number];',
      ],
    );
  });

  it('leaves out what is not for users or has no JavaScript value', () => {
    const files = generate(
      [
        'aten::_private(Tensor self) -> Tensor',
        'aten::relu_backward(Tensor self) -> Tensor',
        'aten::abs.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)',
        'aten::any.dimname(Tensor self, Dimname dim) -> Tensor',
        'aten::record(Tensor self, Stream s) -> ()',
        'quantized::add(Tensor self) -> Tensor',
        'static_runtime::VarTupleUnpack(...) -> ...',
        'aten::item(Tensor self) -> Scalar',
      ],
      '2.13.0',
    );
    assert.match(files['names.generated.ts'], /methodNames: string = `\n\n`/);
    assert.match(files['names.generated.ts'], /functionNames: string = `\n\n`/);
  });

  it('does not depend on the order of the schemas', () => {
    const schemas = [
      'aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
      'aten::sub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor',
      'aten::abs(Tensor self) -> Tensor',
      'aten::abs_(Tensor(a!) self) -> Tensor(a!)',
    ];
    assert.deepEqual(generate([...schemas].reverse(), '2.13.0'), generate(schemas, '2.13.0'));
  });

  it('names the script and the LibTorch in the header', () => {
    for (const text of Object.values(generate([], '2.99.0'))) {
      assert.match(text, /^\/\/ Generated by scripts\/generate-types\.ts .* LibTorch 2\.99\.0\. Do not edit\.\n/);
    }
  });
});
