import assert from 'node:assert/strict';
import { InvalidArgumentError, scope, torch } from '../../src/torch';

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

  it('refuses a shape that does not fit, and shared memory between threads', () => {
    assert.throws(() => torch.fromTypedArray(new Float32Array(3), [2]), /the shape needs 8 bytes, the data has 12/);
    assert.throws(() => torch.fromTypedArray(new Float32Array(3), [-3]), /a shape cannot hold -3/);
    assert.throws(
      () => torch.fromTypedArray(new Float32Array(new SharedArrayBuffer(8)) as never),
      InvalidArgumentError,
    );
    assert.throws(() => torch.fromBytes(new Uint8Array(3), [1], 'float32'), /needs 4 bytes/);
    assert.throws(() => torch.fromBytes(new Uint8Array(4), [1], 'float31' as never), /'float31' is no dtype/);
  });

  it('fills with float32 for numbers, as LibTorch says for the rest', () => {
    assert.equal(torch.full([2], 1).dtype, 'float32');
    assert.equal(torch.full([2], 1, { dtype: 'int64' }).dtype, 'int64');
    assert.equal(torch.full([2], true).dtype, 'bool');
    assert.equal(torch.full([2], 1n).dtype, 'int64');
  });

  it('moves lists that outgrow the shared memory', () => {
    const long = Array.from({ length: 70_000 }, (_, i) => i % 2);
    const tensor = torch.zeros([1]);
    const repeated = scope(() => torch.cat(long.map(() => tensor)));
    assert.deepEqual(repeated.shape, [70_000]);
    assert.equal(repeated.split(1).length, 70_000);
  });
});
