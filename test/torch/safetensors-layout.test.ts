import assert from 'node:assert/strict';
import fc from 'fast-check';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { KontrastError } from '../../src/torch/errors';
import { planSafetensors, readSafetensorsLayout } from '../../src/torch/safetensors-layout';

const dtypes = [
  ['bool', 1],
  ['uint8', 1],
  ['int8', 1],
  ['float8_e5m2', 1],
  ['float8_e4m3fn', 1],
  ['float8_e8m0fnu', 1],
  ['float8_e4m3fnuz', 1],
  ['float8_e5m2fnuz', 1],
  ['int16', 2],
  ['uint16', 2],
  ['float16', 2],
  ['bfloat16', 2],
  ['int32', 4],
  ['uint32', 4],
  ['float32', 4],
  ['int64', 8],
  ['uint64', 8],
  ['float64', 8],
  ['complex64', 8],
] as const;

describe('safetensors layout', () => {
  let folder: string;
  let file: string;
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-safetensors-'));
    file = path.join(folder, 'x.safetensors');
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  /** Writes a file with this header (an object or raw text) and so many bytes of data. */
  function write(header: unknown, dataLength: number, options: { headerLength?: bigint } = {}): void {
    const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt.asUintN(64, options.headerLength ?? BigInt(json.byteLength)));
    fs.writeFileSync(file, Buffer.concat([length, json, Buffer.alloc(dataLength)]));
  }

  function assertRefused(what: RegExp): void {
    assert.throws(
      () => readSafetensorsLayout(file),
      (error: unknown) => {
        assert.ok(error instanceof KontrastError);
        assert.equal(error.code, 'SAFETENSORS');
        assert.ok(error.message.includes(file), `the message names the file: ${error.message}`);
        assert.match(error.message, what);
        return true;
      },
    );
  }

  it('lays out bytes as the format says, worked out by hand', () => {
    const { header, layout } = planSafetensors(
      [
        { name: 'a', dtype: 'bool', shape: [3] },
        { name: 'b', dtype: 'float32', shape: [2, 2] },
      ],
      { k: 'v' },
    );
    const json =
      '{"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"a":{"dtype":"BOOL","shape":[3],"data_offsets":[16,19]}}';
    const padded = Math.ceil(json.length / 8) * 8;
    assert.equal(Buffer.from(header).readBigUInt64LE(), BigInt(padded));
    assert.equal(Buffer.from(header.subarray(8)).toString(), json.padEnd(padded));
    assert.deepEqual(layout.tensors, [
      { name: 'b', dtype: 'float32', shape: [2, 2], offset: 8 + padded, byteLength: 16 },
      { name: 'a', dtype: 'bool', shape: [3], offset: 8 + padded + 16, byteLength: 3 },
    ]);
  });

  it('reads back any plan, each tensor aligned to its element size', () => {
    const tensor = fc.record({
      name: fc
        .oneof(fc.string(), fc.constantFrom('__proto__', '7', 'constructor'))
        .filter((name) => name !== '__metadata__'),
      dtype: fc.constantFrom(...dtypes),
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 }),
        fc.dictionary(fc.string(), fc.string()),
        (tensors, metadata) => {
          const { header, layout } = planSafetensors(
            tensors.map(({ name, dtype, shape }) => ({ name, dtype: dtype[0], shape })),
            metadata,
          );
          const end = layout.tensors.at(-1);
          const length = end === undefined ? header.byteLength : end.offset + end.byteLength;
          fs.writeFileSync(file, Buffer.concat([header], length));
          const read = readSafetensorsLayout(file);
          const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);
          assert.deepEqual([...read.tensors].sort(byName), [...layout.tensors].sort(byName));
          assert.deepEqual({ ...read.metadata }, { ...metadata });
          for (const { name, offset } of read.tensors) {
            const itemSize = tensors.find((candidate) => candidate.name === name)!.dtype[1];
            assert.equal(offset % itemSize, 0);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('refuses what the format cannot hold', () => {
    assert.throws(
      () => planSafetensors([{ name: 'z', dtype: 'complex128', shape: [] }]),
      /tensor 'z' has dtype complex128/,
    );
    assert.throws(
      () => planSafetensors([{ name: '__metadata__', dtype: 'bool', shape: [] }]),
      /format keeps that name/,
    );
    const twice = { name: 'a', dtype: 'bool', shape: [] };
    assert.throws(() => planSafetensors([twice, twice]), /two tensors are named 'a'/);
    const metadata = { k: 1 } as unknown as Record<string, string>;
    assert.throws(() => planSafetensors([], metadata), /the metadata 'k' is no string/);
    assert.throws(() => planSafetensors([], { k: 'x'.repeat(100_000_000) }), /more than the format's limit/);
  });

  it('refuses every shortening of a file', () => {
    const { header, layout } = planSafetensors([{ name: 'a', dtype: 'int16', shape: [3] }], { k: 'v' });
    const whole = Buffer.concat([header], layout.tensors[0]!.offset + 6);
    for (let length = 0; length < whole.byteLength; length++) {
      fs.writeFileSync(file, whole.subarray(0, length));
      assertRefused(/cut off/);
    }
    fs.writeFileSync(file, Buffer.concat([whole, Buffer.alloc(1)]));
    assertRefused(/1 bytes at its end belong to no tensor/);
  });

  it('refuses damaged headers', () => {
    const a = { dtype: 'U8', shape: [2], data_offsets: [0, 2] };
    const cases: [unknown, number, RegExp][] = [
      ['{', 0, /not JSON/],
      ['[]', 0, /not a JSON object/],
      [{ a: 1 }, 0, /entry of 'a' is not an object/],
      [{ a: { ...a, dtype: 'F128' } }, 2, /unknown dtype "F128"/],
      [{ a: { ...a, shape: [-2] } }, 2, /bad shape \[-2\]/],
      [{ a: { ...a, shape: [1.5] } }, 2, /bad shape/],
      [{ a: { ...a, shape: undefined } }, 2, /bad shape/],
      [{ a: { ...a, shape: ['2'] } }, 2, /bad shape/],
      [{ a: { ...a, shape: Array(65).fill(1), data_offsets: [0, 1] } }, 1, /has 65 dimensions, more than 64/],
      [{ a: { ...a, shape: [2 ** 40, 2 ** 40] } }, 2, /more elements than can be counted/],
      [{ a: { ...a, shape: [2 ** 40, 0, 2 ** 40], data_offsets: [0, 0] } }, 0, /more elements than can be counted/],
      [{ a: { ...a, shape: [2 ** 52] } }, 2, /takes 4503599627370496 bytes, but its data_offsets span 2/],
      [{ a: { ...a, dtype: 'F6_E2M3' } }, 2, /dtype F6_E2M3, which LibTorch does not have/],
      [{ a: { ...a, dtype: 'F4', shape: [3] } }, 2, /rows end within a byte/],
      [{ a: { ...a, dtype: 'F4', shape: [] } }, 2, /rows end within a byte/],
      [{ a: { ...a, dtype: 'constructor' } }, 2, /unknown dtype "constructor"/],
      [{ a: { ...a, dtype: 'x'.repeat(10000) } }, 2, /unknown dtype "x{99}… /],
      [{ a: { ...a, data_offsets: [2, 0] } }, 2, /bad data_offsets \[2,0\]/],
      [{ a: { ...a, data_offsets: [0] } }, 2, /bad data_offsets/],
      [{ a: { ...a, shape: [3] } }, 2, /takes 3 bytes, but its data_offsets span 2/],
      [{ a: { ...a, dtype: 'F32' } }, 2, /takes 8 bytes/],
      [{ a, b: { ...a, data_offsets: [1, 3] } }, 3, /'a' and 'b' overlap/],
      [{ a, b: { ...a, data_offsets: [3, 5] } }, 5, /1 bytes before tensor 'b' belong to no tensor/],
      [{ a: { ...a, data_offsets: [1, 3] } }, 3, /1 bytes before tensor 'a'/],
      [{ a: { ...a, data_offsets: [0, 2 ** 60] } }, 2, /bad data_offsets/],
      [{ a: { ...a, data_offsets: [-2, 0] } }, 2, /bad data_offsets/],
      [{ a, b: { ...a, data_offsets: [2, 4] } }, 2, /its tensors take \d+ bytes with the header, but the file ends/],
      [{ __metadata__: { k: 1 } }, 0, /entry 'k' is not a string/],
      [{ __metadata__: [] }, 0, /entry of '__metadata__' is not an object/],
      ['', 0, /not JSON, or not a JSON object/],
      ['null', 0, /not a JSON object/],
      ['\ufeff{}', 0, /not JSON/],
      ['{} {}', 0, /not JSON \(something follows its end at character 3\)/],
      ['{"a"}', 0, /not JSON \(expected ':' at character 4\)/],
      ['{"__metadata__":{}', 0, /not JSON \(expected '}' at character 18\)/],
      ['{"__metadata__":{}]', 0, /not JSON \(expected '}' at character 18\)/],
      ['{"a":{', 0, /not JSON \(an object has no end\)/],
      ['{"a', 0, /not JSON \(a string has no end\)/],
      ['{"a\\"', 0, /not JSON \(a string has no end\)/],
      ['{a:1}', 0, /not JSON \(expected a name at character 1\)/],
      ['{"\\x":{}}', 0, /not JSON/],
      ['{"a":{"dtype":U8}}', 0, /not JSON/],
      ['{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],}}', 2, /not JSON/],
      ['{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},}', 2, /not JSON \(expected a name/],
      ['{"a":{"x":{}}}', 0, /entry of 'a' is nested too deeply/],
      ['{"a":{"x":[[]]}}', 0, /entry of 'a' is nested too deeply/],
      [`{"a":{"x":${'['.repeat(1_000_000)}`, 0, /entry of 'a' is nested too deeply/],
      [`${'{"a":'.repeat(1_000_000)}`, 0, /entry of 'a' is nested too deeply/],
    ];
    for (const [header, dataLength, message] of cases) {
      write(header, dataLength);
      assertRefused(message);
    }
    write('{}', 0, { headerLength: 1n << 40n });
    assertRefused(/more than the format's limit/);
    write('{}', 0, { headerLength: 3n });
    assertRefused(/header claims 3 bytes/);
    write('{}', 0, { headerLength: -1n });
    assertRefused(/claims 18446744073709551615 bytes, more than the format's limit/);
    fs.writeFileSync(file, Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0x22, 0xff, 0x22]));
    assertRefused(/not JSON/);
  });

  it('refuses whatever is named twice, however it is spelt', () => {
    const a = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    write(`{"a":${a},"b":${a},"\\u0061":${a}}`, 0);
    assertRefused(/two of its entries are named 'a'/);
    write('{"__metadata__":{},"__metadata__":{}}', 0);
    assertRefused(/two of its entries are named '__metadata__'/);
    write('{"__metadata__":{"k":"1","k":"2"}}', 0);
    assertRefused(/the entry of '__metadata__' names one thing twice/);
    write('{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}', 0);
    assertRefused(/the entry of 'a' names one thing twice/);
  });

  it('reads JSON of any spelling', () => {
    write(
      ' {\n"a\\"{:[}" : { "shape":[ 1,\t2 ], "x\\\\":":", "data_offsets" :[0,2], "dtype":"U8"} , "__metadata__":{"k":"{\\""} } \r\n',
      2,
    );
    const { tensors, metadata } = readSafetensorsLayout(file);
    assert.deepEqual(
      tensors.map(({ name, shape }) => [name, shape]),
      [['a"{:[}', [1, 2]]],
    );
    assert.deepEqual({ ...metadata }, { k: '{"' });
  });

  it('takes names that objects treat specially', () => {
    const names = ['__proto__', 'constructor', 'toString', ''];
    const { header } = planSafetensors(
      names.map((name) => ({ name, dtype: 'int8', shape: [0] })),
      JSON.parse('{"__proto__":"a","constructor":"b"}') as Record<string, string>,
    );
    const { tensors, metadata } = readSafetensorsLayout(header);
    assert.deepEqual(tensors.map(({ name }) => name).sort(), [...names].sort());
    assert.equal(metadata['__proto__'], 'a');
    assert.equal(metadata.constructor, 'b');
    assert.equal(metadata.toString, undefined);
    write('{"a":{"__proto__":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}', 0);
    assertRefused(/nested too deeply/);
    write('{"a":{"__proto__":"U8","shape":[0],"data_offsets":[0,0]}}', 0);
    assertRefused(/unknown dtype nothing/);
  });

  it('counts two elements a byte in F4, as the format does', () => {
    const { header, layout } = planSafetensors([{ name: 'a', dtype: 'float4_e2m1fn_x2', shape: [2, 3] }]);
    assert.match(Buffer.from(header).toString('latin1'), /"dtype":"F4","shape":\[2,6\],"data_offsets":\[0,6\]/);
    assert.deepEqual(readSafetensorsLayout(Buffer.concat([header], header.length + 6)).tensors, layout.tensors);
    assert.throws(
      () => planSafetensors([{ name: 'a', dtype: 'float4_e2m1fn_x2', shape: [] }]),
      /'a' of two elements a byte needs a dimension/,
    );
  });

  it('reads tens of thousands of tensors', () => {
    const count = 50_000;
    const { header } = planSafetensors(
      Array.from({ length: count }, (_, i) => ({ name: `layer.${i}.weight`, dtype: 'float32', shape: [i % 3] })),
    );
    const length = [...Array(count).keys()].reduce((sum, i) => sum + 4 * (i % 3), 0);
    const { tensors } = readSafetensorsLayout(Buffer.concat([header], header.length + length));
    assert.equal(tensors.length, count);
  });

  it('names a file that does not exist', () => {
    assert.throws(() => readSafetensorsLayout(path.join(folder, 'none')), /cannot read '.*none': ENOENT/);
  });
});
