import assert from 'node:assert/strict';
import { InvalidArgumentError, scope, torch, type DType, type NestedArray, type Tensor } from '../../src/torch';

describe('torch', () => {
  it('makes tensors from numbers, bigints, booleans and nested arrays', () => {
    assert.equal(torch.tensor([1, 2]).dtype, 'float32');
    assert.equal(torch.tensor([1n]).dtype, 'int64');
    assert.equal(torch.tensor([true]).dtype, 'bool');
    assert.equal(torch.tensor([1, 2], { dtype: 'int32' }).dtype, 'int32');
    assert.equal(torch.tensor([2 ** 24 + 1], { dtype: 'int64' }).itemSync(), 2 ** 24 + 1);
    assert.deepEqual(torch.tensor([[[1], [2]]]).shape, [1, 2, 1]);
    assert.deepEqual(torch.tensor([[], []]).shape, [2, 0]);
    assert.equal(torch.tensor([1], { requiresGrad: true }).requiresGrad, true);
    assert.equal(torch.tensor([0.1], { dtype: 'float64' }).itemSync(), 0.1);
  });

  it('refuses ragged and mixed data', () => {
    assert.throws(() => torch.tensor([[1, 2], [3]]), /ragged/);
    assert.throws(() => torch.tensor([1, [2]] as never), /ragged/);
    assert.throws(() => torch.tensor([1, true] as never), /mixes/);
  });

  it('copies typed arrays unless told to share', () => {
    const array = new Float32Array([1, 2, 3, 4]);
    const copied = torch.fromTypedArray(array, [2, 2]);
    const shared = torch.fromTypedArray(array, [2, 2], { copy: false });
    array[0] = 9;
    assert.equal(copied.at(0, 0).itemSync(), 1);
    assert.equal(shared.at(0, 0).itemSync(), 9);
    shared.add_(1);
    assert.deepEqual(Array.from(array), [10, 3, 4, 5]);
  });

  it('keeps shared memory alive while a tensor uses it', () => {
    const tensors = Array.from({ length: 20 }, (_, i) =>
      torch.fromTypedArray(new Float32Array(100_000).fill(i), undefined, { copy: false }),
    );
    // Memory that was freed would be used again by these.
    for (let i = 0; i < 50; i++) new Float32Array(100_000).fill(-1);
    tensors.forEach((tensor, i) => {
      assert.equal(tensor.mean().itemSync(), i);
      tensor.dispose();
    });
  });

  it('takes part of a larger buffer', () => {
    const array = new Float32Array([0, 1, 2, 3]).subarray(1, 3);
    assert.deepEqual(torch.fromTypedArray(array).toArraySync(), [1, 2]);
  });

  it('takes bits for 16-bit floats and pairs for complex numbers', () => {
    assert.deepEqual(
      torch.fromTypedArray(new Uint16Array([0x3f80, 0xc000]), [2], { dtype: 'bfloat16' }).toArraySync(),
      [1, -2],
    );
    assert.deepEqual(torch.fromTypedArray(new Uint16Array([0x3c00]), [1], { dtype: 'float16' }).toArraySync(), [1]);
    const complex = torch.fromTypedArray(new Float32Array([1, 2, 3, 4]), undefined, { dtype: 'complex64' });
    assert.deepEqual(complex.shape, [2]);
    assert.deepEqual(complex.toArraySync(), [
      [1, 2],
      [3, 4],
    ]);
  });

  it('converts where the array holds another type', () => {
    const x = torch.fromTypedArray(new Uint8Array([1, 2]), [2], { dtype: 'float32' });
    assert.equal(x.dtype, 'float32');
    assert.deepEqual(x.toArraySync(), [1, 2]);
    assert.throws(
      () => torch.fromTypedArray(new Uint8Array(2), [2], { dtype: 'float32', copy: false }),
      /an array of uint8 cannot back a tensor of float32 without a copy/,
    );
  });

  it('refuses a shape that does not fit', () => {
    assert.throws(() => torch.fromTypedArray(new Float32Array(3), [2]), /the shape needs 8 bytes, the data has 12/);
    assert.throws(() => torch.fromTypedArray(new Float32Array(3), [-3]), /a shape holds whole numbers from 0, not -3/);
    assert.throws(() => torch.fromBytes(new Uint8Array(3), [1], 'float32'), /needs 4 bytes/);
    assert.throws(() => torch.fromBytes(new Uint8Array(4), [1], 'float31' as never), /'float31' is no dtype/);
  });

  it('fills with float32 for numbers, as LibTorch says for the rest', () => {
    assert.equal(torch.full([2], 1).dtype, 'float32');
    assert.equal(torch.full([2], 1, { dtype: 'int64' }).dtype, 'int64');
    assert.equal(torch.full([2], true).dtype, 'bool');
    assert.equal(torch.full([2], 1n).dtype, 'int64');
    const byName = torch.full as (size: number[], options: object) => Tensor;
    assert.equal(byName([2], { fillValue: 1 }).dtype, 'float32');
    assert.deepEqual(byName([2], { fillValue: 3, dtype: 'int64' }).toArraySync(), [3n, 3n]);
    assert.deepEqual(torch.full([1], { re: 1, im: 2 }).dataSync(), Float32Array.of(1, 2));
  });

  it('has what tells of memory and sets the printing, too', () => {
    const x = torch.zeros([41, 43]);
    assert.equal(torch.memory().liveTensors, torch.debugLiveTensors().length);
    assert.ok(torch.debugLiveTensors().some(({ shape }) => shape.join() === '41,43'));
    x.dispose();
    torch.setPrintOptions({ precision: 1 });
    try {
      assert.equal(String(torch.tensor([1.25])), 'tensor([1.2])');
    } finally {
      torch.setPrintOptions({ profile: 'default' });
    }
  });

  it('moves lists that outgrow the shared memory', () => {
    const long = Array.from({ length: 70_000 }, (_, i) => i % 2);
    const tensor = torch.zeros([1]);
    const repeated = scope(() => torch.cat(long.map(() => tensor)));
    assert.deepEqual(repeated.shape, [70_000]);
    assert.equal(repeated.split(1).length, 70_000);
  });

  it('refuses data that no tensor can be made of, naming it', () => {
    const wrong = (data: unknown, dtype?: DType): (() => Tensor) => {
      return () => torch.tensor(data as NestedArray, { dtype });
    };
    assert.throws(wrong(undefined), /made of numbers, bigints or booleans, not undefined/);
    assert.throws(wrong([1, undefined]), /not undefined/);
    // eslint-disable-next-line no-sparse-arrays
    assert.throws(wrong([1, , 2]), /not undefined/);
    assert.throws(wrong(['1', '2']), /not '1'/);
    assert.throws(wrong([null]), /not null/);
    assert.throws(wrong({ length: 2 }), InvalidArgumentError);
    assert.throws(wrong([torch.ones([2])]), /not a tensor; join tensors with torch\.stack/);
    assert.throws(wrong([new Float32Array(2)]), /not a typed array/);
    assert.throws(wrong([1, true]), /mixes numbers and booleans/);
    assert.throws(wrong([[1], 2]), /ragged/);
    const loop: unknown[] = [];
    loop.push(loop);
    assert.throws(wrong(loop), /nested too deeply, or in a circle/);
    assert.throws(wrong([NaN], 'int32'), /NaN is no whole number, as int32 needs/);
    assert.throws(wrong([1.5], 'int64'), InvalidArgumentError);
    assert.throws(wrong([256], 'uint8'), /256 does not fit uint8/);
    assert.throws(wrong([-1n], 'uint64'), /-1 does not fit uint64/);
    assert.throws(wrong([2n ** 63n]), /does not fit int64/);
    assert.throws(wrong([2 ** 31], 'int32'), InvalidArgumentError);
  });

  it('keeps integers exact on the way to their dtype', () => {
    assert.deepEqual(
      torch.tensor([2n ** 64n - 1n, 0n], { dtype: 'uint64' }).dataSync(),
      new BigUint64Array([2n ** 64n - 1n, 0n]),
    );
    assert.deepEqual(
      torch.tensor([2 ** 53 - 1, 3], { dtype: 'int64' }).dataSync(),
      new BigInt64Array([2n ** 53n - 1n, 3n]),
    );
    assert.deepEqual(torch.tensor([2n ** 62n], { dtype: 'int64' }).dataSync(), new BigInt64Array([2n ** 62n]));
    assert.deepEqual(torch.tensor([3n, 4n], { dtype: 'float32' }).toArraySync(), [3, 4]);
    assert.deepEqual(torch.tensor([true, false], { dtype: 'int32' }).toArraySync(), [1, 0]);
  });

  it('refuses shapes that hold no sizes or need more than there is', () => {
    const array = new Float32Array(4);
    for (const shape of [[NaN], [-1], [1.5], ['4'], [2 ** 53], 4]) {
      assert.throws(() => torch.fromTypedArray(array, shape as number[]), InvalidArgumentError);
    }
    assert.throws(() => torch.fromTypedArray(array, [2 ** 40, 2 ** 40]), /the shape is too large/);
    assert.throws(() => torch.fromTypedArray(array, [2 ** 31, 2 ** 31, 4]), InvalidArgumentError);
    assert.throws(() => torch.fromBytes(new Uint8Array(4), [4], 'qint8'), /quantized/);
  });

  it('shares memory that keeps its size, also between threads', () => {
    const array = new Float32Array(new SharedArrayBuffer(8));
    const x = torch.fromTypedArray(array, [2], { copy: false });
    array[0] = 7;
    x.at(1).fill_(3);
    assert.deepEqual(x.toArraySync(), [7, 3]);
    assert.equal(array[1], 3);
    const Resizable = ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer;
    const resizable = new Float32Array(new Resizable(8, { maxByteLength: 1 << 20 }));
    assert.throws(() => torch.fromTypedArray(resizable, [2], { copy: false }), /can change its size/);
    assert.deepEqual(torch.fromTypedArray(resizable).toArraySync(), [0, 0]);
  });
});
