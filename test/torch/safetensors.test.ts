import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import {
  debugLiveTensors,
  InvalidArgumentError,
  KontrastError,
  memory,
  openSafetensors,
  readSafetensors,
  scope,
  torch,
  writeSafetensors,
  type DType,
  type Tensor,
} from '../../src/torch';
import { openSource } from '../../src/torch/byte-source';
import { SafetensorsFile } from '../../src/torch/safetensors';
import { mapsOf } from '../support/maps';

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
    'float8_e4m3fnuz',
    'float8_e5m2fnuz',
    'float4_e2m1fn_x2',
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

  it('reads what Python wrote, bit for bit', () => {
    const folder = path.join(__dirname, '..', 'golden');
    const { 'python.safetensors': wanted } = JSON.parse(
      fs.readFileSync(path.join(folder, 'pt_files.json'), 'utf8'),
    ) as Record<
      'python.safetensors',
      {
        metadata: Record<string, string>;
        tensors: Record<string, { tensor: DType; shape: number[]; strides: number[]; data: string }>;
      }
    >;
    scope(() => {
      const { tensors, metadata } = readSafetensors(path.join(folder, 'pt', 'python.safetensors'));
      assert.deepEqual({ ...metadata }, wanted.metadata);
      assert.deepEqual(Object.keys(tensors).sort(), Object.keys(wanted.tensors).sort());
      for (const [name, { tensor: dtype, shape, strides, data }] of Object.entries(wanted.tensors)) {
        const read = tensors[name]!;
        assert.equal(read.dtype, dtype);
        assert.deepEqual(read.shape, shape, name);
        assert.deepEqual(read.strides, strides, name);
        assert.equal(Buffer.from(read.bytesSync()).toString('base64'), data, name);
      }
    });
  });

  describe('openSafetensors', () => {
    it('reads no more of the file than the tensor that is asked for', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.ones([1000]), b: torch.arange(3), c: torch.zeros([50]) }, { k: 'v' });
        const source = openSource(file);
        const fills: [position: number, length: number][] = [];
        const opened = new SafetensorsFile({
          ...source,
          size: source.size,
          name: source.name,
          close: () => source.close(),
          openFile: () => source.openFile(),
          fill: (target, position) => {
            fills.push([position, target.byteLength]);
            source.fill(target, position);
          },
        });
        assert.deepEqual([...opened.tensors.keys()].sort(), ['a', 'b', 'c']);
        assert.deepEqual({ ...opened.metadata }, { k: 'v' });
        const { offset, byteLength, dtype, shape } = opened.tensors.get('b')!;
        assert.deepEqual([byteLength, dtype, shape], [24, 'int64', [3]]);
        fills.length = 0;
        assert.deepEqual(opened.read('b').toArraySync(), [0n, 1n, 2n]);
        assert.deepEqual(fills, [[offset, 24]]);
        opened.close();
      });
    });

    it('gives a tensor of its own each time', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.ones([2]) });
        using opened = openSafetensors(file);
        const first = opened.read('a');
        first.fill_(5);
        assert.deepEqual(opened.read('a').toArraySync(), [1, 1]);
      });
    });

    it('keeps the file that it opened when another is written over it', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.ones([2]) });
        using opened = openSafetensors(file);
        writeSafetensors(file, { a: torch.zeros([2]) });
        assert.deepEqual(opened.read('a').toArraySync(), [1, 1]);
      });
    });

    it('says what it holds when asked for something else, and that it was closed', () => {
      scope(() => {
        writeSafetensors(file, Object.fromEntries([...'abcdefg'].map((name) => [name, torch.ones([1])])));
        const opened = openSafetensors(file);
        assert.throws(
          () => opened.read('constructor'),
          (error: unknown) =>
            error instanceof InvalidArgumentError &&
            /holds no tensor 'constructor', but 7 others: 'a', 'b', 'c', 'd', 'e', …/.test(error.message),
        );
        opened.close();
        opened.close();
        assert.throws(
          () => opened.read('a'),
          (error: unknown) => error instanceof KontrastError && error.code === 'FILE_READ',
        );
      });
    });

    it('closes a file that it cannot use', function () {
      if (process.platform !== 'linux') this.skip();
      fs.writeFileSync(file, 'not at all');
      const before = fs.readdirSync('/proc/self/fd').length;
      assert.throws(() => openSafetensors(file), /not a sound safetensors file/);
      assert.equal(fs.readdirSync('/proc/self/fd').length, before);
    });

    it('reads bytes in memory', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.arange(3) });
        using opened = openSafetensors(fs.readFileSync(file));
        assert.deepEqual(opened.read('a').toArraySync(), [0n, 1n, 2n]);
      });
    });
  });

  for (const map of [true, false]) {
    it(`frees what it read when the file ends meanwhile, with map: ${String(map)}`, () => {
      scope(() => writeSafetensors(file, { a: torch.ones([2000]), b: torch.ones([2000]) }));
      const before = memory().liveTensors;
      const opened = openSafetensors(file, { map });
      opened.read('a').dispose();
      fs.truncateSync(file, fs.statSync(file).size - 1);
      assert.throws(() => opened.read('b'), /did another process change it/);
      opened.close();
      assert.equal(memory().liveTensors, before);
    });
  }

  describe('mapped', () => {
    /** Bytes of a file of one tensor of float32, and before it one of uint8 that takes this many bytes. */
    function bytesWithOffset(offset: number, numbers: Float32Array): Buffer {
      const header = JSON.stringify({
        before: { dtype: 'U8', shape: [offset], data_offsets: [0, offset] },
        a: { dtype: 'F32', shape: [numbers.length], data_offsets: [offset, offset + numbers.byteLength] },
      }).padEnd(256);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(256n);
      return Buffer.concat([length, Buffer.from(header), Buffer.alloc(offset), Buffer.from(numbers.buffer)]);
    }

    const onLinux = process.platform === 'linux' ? it : it.skip;

    onLinux('uses the bytes of the file as long as any tensor is on them', () => {
      scope(() => writeSafetensors(file, { a: torch.arange(5000), b: torch.ones([5000]), small: torch.zeros([2]) }));
      const opened = openSafetensors(file);
      assert.equal(mapsOf(file), 0);
      opened.read('small').dispose();
      assert.equal(mapsOf(file), 0);
      const [a, b] = [opened.read('a'), opened.read('b')];
      assert.equal(mapsOf(file), 1);
      const view = b.narrow(0, 4000, 10);
      opened.close();
      a.dispose();
      b.dispose();
      assert.equal(mapsOf(file), 1);
      assert.equal(view.sum().itemSync(), 10);
      view.dispose();
      assert.equal(mapsOf(file), 0);
      scope(() => {
        assert.equal(readSafetensors(file, { map: false }).tensors.a!.numel(), 5000);
        assert.equal(mapsOf(file), 0);
        assert.equal(readSafetensors(file).tensors.a!.numel(), 5000);
        assert.equal(mapsOf(file), 1);
      });
      assert.equal(mapsOf(file), 0);
    });

    it('keeps what is written away from the file, from other tensors, and from the next reading', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.ones([5000]), b: torch.zeros([5000]) });
        const before = fs.readFileSync(file);
        using opened = openSafetensors(file);
        const [a, b] = [opened.read('a'), opened.read('b')];
        a.fill_(7);
        assert.equal(b.sum().itemSync(), 0);
        const again = opened.read('a');
        assert.equal(again.sum().itemSync(), 5000);
        again.fill_(8);
        assert.equal(a.sum().itemSync(), 35_000);
        again.dispose();
        assert.equal(opened.read('a').sum().itemSync(), 5000);
        assert.equal(a.sum().itemSync(), 35_000);
        assert.ok(fs.readFileSync(file).equals(before));
      });
    });

    it('gives each tensor a storage of its own, which does not grow into the next', () => {
      scope(() => writeSafetensors(file, { a: torch.ones([5003]), b: torch.zeros([5003]) }));
      scope(() => {
        const { a } = readSafetensors(file).tensors;
        assert.equal(a!.storageOffset(), 0);
        const found = debugLiveTensors().filter((tensor) => tensor.shape.join() === '5003');
        assert.deepEqual(
          found.map((tensor) => tensor.bytes),
          [20_012, 20_012],
        );
        assert.throws(() => a!.resize_([5004]), /resiz/);
      });
    });

    it('stays when the file is replaced or deleted', () => {
      scope(() => {
        writeSafetensors(file, { a: torch.ones([5000]) });
        using opened = openSafetensors(file);
        const a = opened.read('a');
        writeSafetensors(file, { a: torch.zeros([9]) });
        assert.equal(a.sum().itemSync(), 5000);
        assert.equal(opened.read('a').sum().itemSync(), 5000);
        fs.rmSync(file);
        assert.equal(opened.read('a').sum().itemSync(), 5000);
        assert.equal(a.sum().itemSync(), 5000);
      });
    });

    it('reads elements that are not aligned', () => {
      const numbers = Float32Array.from({ length: 3000 }, (_, i) => i);
      for (const offset of [8000, 8001, 8002, 8004]) {
        fs.writeFileSync(file, bytesWithOffset(offset, numbers));
        scope(() => {
          using opened = openSafetensors(file);
          assert.deepEqual(opened.read('a').dataSync(), numbers);
          if (process.platform === 'linux') assert.equal(mapsOf(file), offset % 4 === 0 ? 1 : 0);
        });
      }
    });

    it('takes relative paths and names of any script, and files without elements', () => {
      const named = path.join(folder, 'größe 大きさ.safetensors');
      scope(() => {
        writeSafetensors(named, { a: torch.ones([5000]) });
        assert.equal(readSafetensors(path.relative('.', named)).tensors.a!.sum().itemSync(), 5000);
        writeSafetensors(named, { none: torch.zeros([0, 3]) });
        assert.deepEqual(readSafetensors(named).tensors.none!.shape, [0, 3]);
        writeSafetensors(named, {});
        assert.deepEqual(Object.keys(readSafetensors(named).tensors), []);
      });
    });

    onLinux('counts neither as memory of LibTorch nor as memory that V8 should collect', async () => {
      const size = 32 << 20;
      scope(() => writeSafetensors(file, { a: torch.zeros([size / 4]) }));
      /** How often V8 collects for the sake of memory outside its heap while many tensors are left to it. */
      const collections = async (make: () => Tensor): Promise<number> => {
        let count = 0;
        const { NODE_PERFORMANCE_GC_FLAGS_ALL_EXTERNAL_MEMORY: flag } = constants;
        const observer = new PerformanceObserver((list) => {
          const entries = list.getEntries() as unknown as { detail: { flags: number } }[];
          count += entries.filter(({ detail }) => detail.flags & flag).length;
        });
        observer.observe({ entryTypes: ['gc'] });
        for (let i = 0; i < 30; i++) {
          make();
          await setTimeout(1);
        }
        observer.disconnect();
        return count;
      };
      const before = memory().cpuBytes;
      assert.equal(await collections(() => readSafetensors(file).tensors.a!), 0);
      assert.equal(await collections(() => torch.fromFile(file, false, size, { dtype: 'uint8' })), 0);
      assert.ok(memory().cpuBytes - before < size);
      assert.ok((await collections(() => readSafetensors(file, { map: false }).tensors.a!)) > 0);
      fs.rmSync(file);
    });

    onLinux('gives back the pages of a tensor that was written to, though the map lives on', () => {
      const count = 16 << 20;
      scope(() => {
        writeSafetensors(file, { a: torch.zeros([count]), b: torch.zeros([2000]) });
        using opened = openSafetensors(file);
        const [a, b] = [opened.read('a'), opened.read('b')];
        a.fill_(1).dispose();
        const before = process.memoryUsage().rss;
        a.dispose();
        assert.ok(before - process.memoryUsage().rss > 2 * count);
        assert.equal(b.sum().itemSync(), 0);
      });
      fs.rmSync(file);
    });

    it('refuses what is neither true nor false', () => {
      assert.throws(() => openSafetensors(file, { map: 'yes' as unknown as boolean }), InvalidArgumentError);
    });
  });
});
