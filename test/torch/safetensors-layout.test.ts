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
    length.writeBigUInt64LE(options.headerLength ?? BigInt(json.byteLength));
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
      [{ a: 1 }, 0, /entry of tensor 'a' is not an object/],
      [{ a: { ...a, dtype: 'F128' } }, 2, /unknown dtype "F128"/],
      [{ a: { ...a, shape: [-2] } }, 2, /bad shape \[-2\]/],
      [{ a: { ...a, shape: [1.5] } }, 2, /bad shape/],
      [{ a: { ...a, shape: undefined } }, 2, /bad shape/],
      [{ a: { ...a, data_offsets: [2, 0] } }, 2, /bad data_offsets \[2,0\]/],
      [{ a: { ...a, data_offsets: [0] } }, 2, /bad data_offsets/],
      [{ a: { ...a, shape: [3] } }, 2, /takes 3 bytes, but its data_offsets span 2/],
      [{ a: { ...a, dtype: 'F32' } }, 2, /takes 8 bytes/],
      [{ a, b: { ...a, data_offsets: [1, 3] } }, 3, /'a' and 'b' overlap/],
      [{ a, b: { ...a, data_offsets: [3, 5] } }, 5, /1 bytes before tensor 'b' belong to no tensor/],
      [{ a: { ...a, data_offsets: [1, 3] } }, 3, /1 bytes before tensor 'a'/],
      [{ __metadata__: { k: 1 } }, 0, /entry 'k' is not a string/],
      [{ __metadata__: [] }, 0, /__metadata__ is not an object/],
    ];
    for (const [header, dataLength, message] of cases) {
      write(header, dataLength);
      assertRefused(message);
    }
    write('{}', 0, { headerLength: 1n << 40n });
    assertRefused(/more than the format's limit/);
    write('{}', 0, { headerLength: 3n });
    assertRefused(/header claims 3 bytes/);
    fs.writeFileSync(file, Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0x22, 0xff, 0x22]));
    assertRefused(/not JSON/);
  });

  it('names a file that does not exist', () => {
    assert.throws(() => readSafetensorsLayout(path.join(folder, 'none')), /cannot read '.*none': ENOENT/);
  });
});
