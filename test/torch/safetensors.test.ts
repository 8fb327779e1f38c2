import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { readSafetensors, scope, torch, writeSafetensors, type DType, type Tensor } from '../../src/torch';

describe('safetensors', () => {
  let folder: string;
  let file: string;
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-safetensors-'));
    file = path.join(folder, 'x.safetensors');
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  const dtypes: DType[] = [
    'bool',
    'uint8',
    'int8',
    'int16',
    'uint16',
    'int32',
    'uint32',
    'int64',
    'uint64',
    'float16',
    'bfloat16',
    'float32',
    'float64',
    'complex64',
    'float8_e5m2',
    'float8_e4m3fn',
    'float8_e8m0fnu',
  ];

  it('keeps every bit of every dtype', () => {
    scope(() => {
      const tensors = Object.fromEntries(
        dtypes.map((dtype, index): [string, Tensor] => {
          const itemSize = torch.empty([1], { dtype }).bytesSync().byteLength;
          const bytes = Uint8Array.from({ length: 6 * itemSize }, (_, i) =>
            dtype === 'bool' ? i % 2 : (i * 37 + index) % 251,
          );
          return [dtype, torch.fromBytes(bytes, [2, 3], dtype)];
        }),
      );
      writeSafetensors(file, tensors, { note: 'ü' });
      const read = readSafetensors(file);
      assert.deepEqual({ ...read.metadata }, { note: 'ü' });
      assert.deepEqual(Object.keys(read.tensors).sort(), [...dtypes].sort());
      for (const dtype of dtypes) {
        assert.equal(read.tensors[dtype]!.dtype, dtype);
        assert.deepEqual(read.tensors[dtype]!.shape, [2, 3]);
        assert.deepEqual(read.tensors[dtype]!.bytesSync(), tensors[dtype]!.bytesSync(), dtype);
      }
    });
  });

  it('writes the elements in order, whatever the layout in memory', () => {
    scope(() => {
      const x = torch.arange(24, { dtype: 'float32' }).view([1, 2, 3, 4]);
      const tensors = new Map([
        ['transposed', x.transpose(2, 3)],
        ['channelsLast', x.contiguous({ memoryFormat: 'channels_last' })],
        ['part', x.narrow(3, 1, 2)],
        ['scalar', torch.tensor(5n)],
        ['empty', torch.zeros([0, 3])],
        ['gradient', x.clone().requiresGrad_().mul(2)],
      ]);
      writeSafetensors(file, tensors);
      const read = readSafetensors(file).tensors;
      for (const [name, tensor] of tensors) {
        assert.deepEqual(read[name]!.shape, tensor.shape, name);
        assert.deepEqual(read[name]!.toArraySync(), tensor.detach().toArraySync(), name);
      }
      assert.deepEqual(read.transposed!.flatten().narrow(0, 0, 4).toArraySync(), [0, 4, 8, 1]);
    });
  });

  it('writes nothing when a dtype has no place in the format', () => {
    scope(() => {
      writeSafetensors(file, { a: torch.ones([1]) });
      const before = fs.readFileSync(file);
      const bad = { a: torch.zeros([1], { dtype: 'complex128' }) };
      assert.throws(() => writeSafetensors(file, bad), /tensor 'a' has dtype complex128/);
      assert.deepEqual(fs.readFileSync(file), before);
      assert.deepEqual(fs.readdirSync(folder), ['x.safetensors']);
    });
  });

  it('refuses a file that was cut off', () => {
    scope(() => {
      writeSafetensors(file, { a: torch.ones([100]) });
      fs.truncateSync(file, fs.statSync(file).size - 1);
      assert.throws(() => readSafetensors(file), /x\.safetensors' is not a sound safetensors file: .*cut off/);
    });
  });

  it('holds names that objects treat specially', () => {
    scope(() => {
      const tensors = new Map([['__proto__', torch.ones([1])]]);
      writeSafetensors(file, tensors);
      assert.deepEqual(Object.keys(readSafetensors(file).tensors), ['__proto__']);
    });
  });
});
