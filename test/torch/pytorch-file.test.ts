import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  InvalidArgumentError,
  isTensor,
  KontrastError,
  memory,
  readPyTorchFile,
  readPyTorchStateDict,
  scope,
  type PyTorchValue,
  type Tensor,
} from '../../src/torch';
import { bytes, little } from '../support/bytes';
import { mapsOf } from '../support/maps';
import { scratch } from '../support/scratch';
import { storedZip } from '../support/stored-zip';
import { openSource } from '../../src/torch/byte-source';
import { dataStart, readZipDirectory } from '../../src/torch/zip';

const golden = join(__dirname, '..', 'golden');
const { expected, refused } = JSON.parse(readFileSync(join(golden, 'pt_files.json'), 'utf8')) as {
  expected: Record<string, unknown>;
  refused: Record<string, string>;
};
const file = (name: string): string => join(golden, 'pt', name);

/** A value in the form in which test/golden/make_pt_files.py describes it. */
function describeValue(value: PyTorchValue): unknown {
  if (isTensor(value)) {
    return {
      tensor: value.dtype,
      shape: value.shape,
      strides: value.strides,
      offset: (value as Tensor & { storageOffset(): number }).storageOffset(),
      requiresGrad: value.requiresGrad,
      data: Buffer.from(value.detach().bytesSync()).toString('base64'),
    };
  }
  if (value instanceof Map) return { dict: [...value].map((pair) => pair.map(describeValue)) };
  if (value instanceof Set) return { set: [...value].map(describeValue).sort() };
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return { list: value.map(describeValue) };
  if (typeof value === 'bigint') return { integer: String(value) };
  if (typeof value === 'object' && value !== null) return { complex: [value.re, value.im] };
  if (typeof value === 'number' && !Number.isFinite(value)) {
    return { float: String(value).toLowerCase().replace('infinity', 'inf') };
  }
  return Object.is(value, -0) ? 0 : value;
}

function dictOf(value: PyTorchValue | undefined): Map<PyTorchValue, PyTorchValue> {
  assert.ok(value instanceof Map);
  return value as Map<PyTorchValue, PyTorchValue>;
}

/** An archive with a tensor of these numbers and one on the third to fifth of them, in a storage `padding` bytes behind a multiple of 64. */
function largeArchive(numbers: Float32Array, padding: number): Buffer {
  const text = (value: string): Buffer => bytes('X', little(value.length, 4), value);
  const storage = bytes(
    '(',
    text('storage'),
    'ctorch\nFloatStorage\n',
    text('0'),
    text('cpu'),
    'J',
    little(numbers.length, 4),
    'tQ',
  );
  const tensor = (offset: number, count: number): Buffer =>
    bytes(
      bytes('ctorch._utils\n_rebuild_tensor_v2\n(', storage, 'J', little(offset, 4), '(J', little(count, 4), 't(K', 1),
      bytes('t', 0x89, 'ccollections\nOrderedDict\n(tRtR'),
    );
  const archive = (before: number): Buffer =>
    storedZip([
      { name: 'm/data.pkl', content: bytes('(', tensor(0, numbers.length), tensor(2, 3), 't.') },
      { name: 'm/.padding', content: Buffer.alloc(before) },
      { name: 'm/data/0', content: new Uint8Array(numbers.buffer) },
    ]);
  const source = openSource(archive(0));
  const start = dataStart(source, readZipDirectory(source).get('m/data/0')!);
  return archive(64 - (start % 64) + padding);
}

describe('readPyTorchFile', () => {
  const scratchPath = scratch();

  for (const name of Object.keys(expected)) {
    it(`reads ${name} as PyTorch wrote it`, () => {
      scope(() => {
        const value = readPyTorchFile(file(name), { checksums: name !== 'no_checksums.pt' });
        const wanted = JSON.stringify(expected[name]).replace(/-0(?:\.0)?(?=[,\]])/g, '0');
        assert.deepEqual(describeValue(value), JSON.parse(wanted));
      });
    });
  }

  for (const [name, reason] of Object.entries(refused)) {
    it(`refuses ${name}`, () => {
      const before = memory().liveTensors;
      assert.throws(
        () => readPyTorchFile(file(name)),
        (error: unknown) => {
          assert.ok(error instanceof KontrastError);
          assert.equal(error.code, 'PYTORCH_FILE');
          assert.ok(error.message.includes(name), error.message);
          assert.match(error.message, new RegExp(reason));
          return true;
        },
      );
      assert.equal(memory().liveTensors, before);
    });
  }

  it('keeps negative zero', () => {
    const floats = dictOf(readPyTorchFile(file('plain.pt'))).get('floats') as number[];
    assert.ok(Object.is(floats[1], -0));
  });

  it('shares memory where the saved tensors did', () => {
    for (const name of ['views.pt', 'views_legacy.pt']) {
      scope(() => {
        const views = dictOf(readPyTorchFile(file(name)));
        const tensor = (key: string): Tensor => views.get(key) as Tensor;
        tensor('base').fill_(-1);
        assert.deepEqual(tensor('row').toArraySync(), Array(6).fill(-1));
        assert.deepEqual([...tensor('transposed').dataSync()], Array(24).fill(-1));
        assert.notDeepEqual([...tensor('channels_last').dataSync()], Array(16).fill(-1));
        const [first, second] = views.get('tied') as [Tensor, Tensor];
        assert.equal(first, second);
      });
    }
  });

  it('reads bytes in memory as it reads a file', () => {
    scope(() => {
      const value = readPyTorchFile(readFileSync(file('checkpoint.pt')));
      assert.deepEqual(describeValue(value), expected['checkpoint.pt']);
    });
  });

  it('maps what lies aligned in a file, when asked to', () => {
    const path = scratchPath('mapped.pt');
    const numbers = Float32Array.from({ length: 2048 }, (_, i) => i);
    for (const [padding, isAligned] of [
      [0, true],
      [1, false],
    ] as const) {
      writeFileSync(path, largeArchive(numbers, padding));
      scope(() => {
        const [whole, part] = readPyTorchFile(path, { map: true }) as Tensor[];
        if (process.platform === 'linux') assert.equal(mapsOf(path), isAligned ? 1 : 0);
        assert.deepEqual(whole!.dataSync(), numbers);
        assert.deepEqual(part!.toArraySync(), [2, 3, 4]);
        whole!.fill_(-1);
        assert.deepEqual(part!.toArraySync(), [-1, -1, -1]);
        assert.deepEqual((readPyTorchFile(path) as Tensor[])[1]!.toArraySync(), [2, 3, 4]);
      });
      if (process.platform === 'linux') assert.equal(mapsOf(path), 0);
    }
  });

  it('gives the same mapped and read', () => {
    for (const name of Object.keys(expected)) {
      const options = { checksums: name !== 'no_checksums.pt' };
      const read = (map: boolean): unknown =>
        scope(() => describeValue(readPyTorchFile(file(name), { ...options, map })));
      assert.deepEqual(read(true), read(false), name);
    }
  });

  it('asks for checksums: false where there are none', () => {
    assert.throws(() => readPyTorchFile(file('no_checksums.pt')), /CRC-32 differs.*pass checksums: false/s);
  });

  it('does not recurse through calls of calls', () => {
    // _rebuild_from_type_v2 asked to call itself, with arguments that ask it again, and so on.
    const depth = 50_000;
    const content = bytes(
      'ctorch._tensor\n_rebuild_from_type_v2\n',
      bytes('q', 0, 'ctorch\nTensor\n', 'q', 1, '0'),
      Buffer.from('(h\0h\x01'.repeat(depth)),
      ')',
      'Nt'.repeat(depth),
      'R.',
    );
    assert.throws(
      () => readPyTorchFile(storedZip([{ name: 'm/data.pkl', content }])),
      (error: unknown) => error instanceof KontrastError && /_rebuild_from_type_v2' with arguments/.test(error.message),
    );
  });

  it('says what is wrong also with what no message can show', () => {
    const deep = bytes(']'.repeat(100_000), 'a'.repeat(99_999));
    const huge = bytes(0x8a, 9, Buffer.alloc(9, 1));
    const dtype = (code: Uint8Array): Buffer => bytes('cnumpy\ndtype\n', code, 0x85, 'R.');
    const gradient = bytes(
      'ctorch._utils\n_rebuild_tensor_v2\n((X',
      little(7, 4),
      'storage',
      'ctorch\nFloatStorage\n',
      'X',
      little(1, 4),
      '0',
      'NK',
      1,
      'tQK',
      0,
      ')',
      ')',
      deep,
      'NtR.',
    );
    const legacy = readFileSync(file('object_legacy.pt'));
    const version = bytes(legacy.subarray(0, legacy.indexOf('.') + 1), deep, '.');
    const zip = (content: Uint8Array): Buffer =>
      storedZip([
        { name: 'm/data.pkl', content },
        { name: 'm/data/0', content: new Uint8Array(4) },
      ]);
    for (const [content, reason] of [
      [zip(dtype(deep)), /NumPy value of the type something else/],
      [zip(dtype(huge)), /NumPy value of the type something else/],
      [zip(gradient), /requires_grad is something else/],
      [version, /unknown version something else/],
    ] as const) {
      assert.throws(
        () => readPyTorchFile(content),
        (error: unknown) => error instanceof KontrastError && (assert.match(error.message, reason), true),
      );
    }
  });

  it('closes the file, read or refused', function () {
    if (process.platform !== 'linux') this.skip();
    const before = readdirSync('/proc/self/fd').length;
    scope(() => readPyTorchFile(file('state_dict.pt')));
    assert.throws(() => readPyTorchFile(file('module.pt')));
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  it('leaves its tensors to the scope around it', () => {
    const before = memory().liveTensors;
    scope(() => {
      readPyTorchFile(file('state_dict.pt'));
      assert.ok(memory().liveTensors > before);
    });
    assert.equal(memory().liveTensors, before);
  });

  it('names a file that is not there, or is none', () => {
    for (const [name, reason] of [
      ['none.pt', /cannot read '.*none\.pt': ENOENT/],
      ['', /cannot read .* it is not a file/],
    ] as const) {
      assert.throws(
        () => readPyTorchFile(file(name)),
        (error: unknown) => {
          assert.ok(error instanceof KontrastError);
          assert.equal(error.code, 'FILE_READ');
          assert.match(error.message, reason);
          return true;
        },
      );
    }
  });
});

describe('readPyTorchStateDict', () => {
  it('gives tensors by name, from the file or from a dict in it', () => {
    scope(() => {
      const whole = readPyTorchStateDict(file('state_dict.pt'));
      const inner = readPyTorchStateDict(file('checkpoint.pt'), { at: 'model' });
      assert.deepEqual([...whole.keys()], [...inner.keys()]);
      assert.deepEqual(whole.get('3.weight')!.shape, [2, 12]);
      assert.deepEqual([...readPyTorchStateDict(file('checkpoint.pt'), { at: ['model'] }).keys()], [...whole.keys()]);
    });
  });

  it('says what is there when it is something else', () => {
    const cases: [string, { at?: string | string[] }, RegExp][] = [
      ['checkpoint.pt', {}, /a dict of model, optimizer, .* of which 'model' is a dict .* and no tensor.*option at/s],
      ['checkpoint.pt', { at: 'ema' }, /there is no 'ema': the file holds a dict of model, optimizer/],
      ['checkpoint.pt', { at: ['model', 'a', 'b'] }, /there is no 'a': 'model' holds a dict of 0\.weight/],
      ['tensor.pt', {}, /the file holds a tensor instead of tensors by name/],
      ['tensor.pt', { at: 'a' }, /there is no 'a': the file holds a tensor/],
    ];
    const before = memory().liveTensors;
    for (const [name, options, reason] of cases) {
      assert.throws(
        () => readPyTorchStateDict(file(name), options),
        (error: unknown) => error instanceof InvalidArgumentError && reason.test(error.message),
      );
    }
    assert.equal(memory().liveTensors, before);
  });
});
