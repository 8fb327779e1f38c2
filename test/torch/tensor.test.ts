import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import {
  DisposedError,
  InvalidArgumentError,
  Tensor,
  torch,
  TorchError,
  TorchNotImplementedError,
  type DType,
} from '../../src/torch';

describe('Tensor', () => {
  it('tells its shape, strides, dtype and device', () => {
    const x = torch.zeros([2, 3, 4], { dtype: 'float64' });
    assert.deepEqual(x.shape, [2, 3, 4]);
    assert.deepEqual(x.strides, [12, 4, 1]);
    assert.equal(x.ndim, 3);
    assert.equal(x.numel(), 24);
    assert.equal(x.dtype, 'float64');
    assert.equal(x.device, 'cpu');
    assert.equal(x.layout, 'strided');
    assert.equal(torch.eye(2).toSparseCsr().layout, 'sparse_csr');
    assert.equal(x.sizeOf(-1), 4);
    assert.throws(() => x.sizeOf(3), /dimension 3 does not exist in shape \[2, 3, 4\]/);
  });

  const exact: [DType, number[]][] = [
    ['uint8', [0, 7, 255]],
    ['int8', [-128, 0, 127]],
    ['int16', [-32768, 5, 32767]],
    ['int32', [-(2 ** 31), 5, 2 ** 31 - 1]],
    ['uint16', [0, 9, 65535]],
    ['uint32', [0, 9, 2 ** 32 - 1]],
    ['float16', [-1.5, 0, 65504]],
    ['bfloat16', [-1.5, 0, 256]],
    ['float32', [-1.5, 0, 2 ** -126]],
    ['float64', [-1.5, 1e300, 2 ** -1022]],
    ['float8_e4m3fn', [-1.5, 0, 448]],
    ['float8_e5m2', [-1.5, 0, 57344]],
    ['bool', [0, 1, 1]],
  ];
  for (const [dtype, numbers] of exact) {
    it(`reads ${dtype} back`, async () => {
      const x = torch.tensor(numbers, { dtype });
      assert.equal(x.dtype, dtype);
      assert.deepEqual(Array.from(x.dataSync(), Number), numbers);
      assert.deepEqual(await x.data(), x.dataSync());
      const again = torch.fromBytes(x.bytesSync(), [3], dtype);
      assert.equal(again.dtype, dtype);
      assert.deepEqual(again.dataSync(), x.dataSync());
      assert.equal(x.at(2).itemSync(), numbers[2]);
      assert.equal(await x.at(0).item(), numbers[0]);
    });
  }

  it('is rejected with an error of the library when the part beside the event loop fails', async () => {
    // It can be copied, but not widened.
    const packed = torch.fromBytes(new Uint8Array(4), [4], 'float4_e2m1fn_x2');
    for (const reading of [packed.data(), packed.toArray(), packed.at(0).item()]) {
      await assert.rejects(
        reading,
        (error: unknown) => error instanceof TorchNotImplementedError && /not implemented for/.test(error.message),
      );
    }
  });

  it('keeps 64-bit integers exact', async () => {
    const x = torch.tensor([2n ** 62n, -1n]);
    assert.equal(x.dtype, 'int64');
    assert.deepEqual(x.dataSync(), new BigInt64Array([2n ** 62n, -1n]));
    assert.equal(x.at(1).itemSync(), -1);
    // 2 ** 62 is exact as a number, 2 ** 62 + 1 is not.
    assert.equal(x.at(0).itemSync(), 2 ** 62);
    assert.throws(() => x.at(0).add(1).itemSync(), /is not exact as a number; read it with dataSync\(\)/);
    await assert.rejects(x.at(0).add(1).item(), InvalidArgumentError);
    const large = torch.fromTypedArray(new BigUint64Array([2n ** 64n - 1n]));
    assert.equal(large.dtype, 'uint64');
    assert.deepEqual(large.dataSync(), new BigUint64Array([2n ** 64n - 1n]));
  });

  it('knows in which order its elements lie', () => {
    const x = torch.ones([2, 3, 4, 5]);
    const last = x.contiguous({ memoryFormat: 'channels_last' });
    assert.deepEqual(
      [x.isContiguous(), x.isContiguous('contiguous_format'), x.isContiguous('channels_last')],
      [true, true, false],
    );
    assert.deepEqual([last.isContiguous(), last.isContiguous('channels_last')], [false, true]);
    const volume = torch.ones([1, 2, 3, 4, 5]).contiguous({ memoryFormat: 'channels_last_3d' });
    assert.deepEqual([volume.isContiguous(), volume.isContiguous('channels_last_3d')], [false, true]);
    assert.throws(() => x.isContiguous('preserve_format'), /'preserve_format' is no order of dimensions/);
  });

  it('reads what is not contiguous in row-major order', () => {
    const x = torch.arange(6).reshape([2, 3]).t();
    assert.equal(x.isContiguous(), false);
    assert.deepEqual(x.toArraySync(), [
      [0n, 3n],
      [1n, 4n],
      [2n, 5n],
    ]);
    const complex = torch.tensor([1, 2]).to('complex64').mul({ re: 0, im: 1 }).conj();
    assert.deepEqual(Array.from(complex.dataSync(), Number), [0, -1, 0, -2]);
  });

  it('gives nested arrays, booleans as booleans, empty ones too', async () => {
    assert.deepEqual(torch.tensor([[true, false]]).toArraySync(), [[true, false]]);
    assert.deepEqual(await torch.zeros([2, 0]).toArray(), [[], []]);
    assert.equal(torch.tensor(3).toArraySync(), 3);
  });

  it('refuses item() of several elements and of complex numbers', async () => {
    assert.throws(() => torch.zeros([2]).itemSync(), /item\(\) needs one element, and the shape is \[2\]/);
    await assert.rejects(torch.zeros([2]).item(), InvalidArgumentError);
    assert.throws(() => torch.zeros([], { dtype: 'complex64' }).itemSync(), TorchError);
    await assert.rejects(torch.zeros([], { dtype: 'complex64' }).item(), TorchError);
  });

  it('converts by dtype, device, options and example', () => {
    const x = torch.ones([2]);
    assert.equal(x.to({ dtype: 'int32' }).dtype, 'int32');
    assert.equal(x.to('cpu', { dtype: 'int8' }).dtype, 'int8');
    assert.equal(x.to(torch.zeros([1], { dtype: 'float64' })).dtype, 'float64');
    assert.equal(x.to('float32').isSame(x), true);
    assert.equal(x.to('float32', { copy: true }).isSame(x), false);
    assert.throws(() => x.to('flaot32' as never), /flaot32/);
  });

  it('swaps its data and stays the same variable', () => {
    const x = torch.zeros([2], { requiresGrad: true });
    x.setData(torch.ones([3], { dtype: 'float64' }));
    assert.deepEqual(x.shape, [3]);
    assert.equal(x.dtype, 'float64');
    assert.equal(x.requiresGrad, true);
  });

  it('is an error after dispose, everywhere', () => {
    const x = torch.zeros([2]);
    const y = torch.zeros([2]);
    x.dispose();
    x.dispose();
    assert.equal(x.isDisposed, true);
    assert.throws(() => x.add(1), DisposedError);
    assert.throws(() => y.add(x), DisposedError);
    assert.throws(() => torch.cat([y, x]), /item 1 of a list of tensors was disposed/);
    assert.throws(() => x.shape, DisposedError);
    assert.throws(() => x.dataSync(), DisposedError);
    assert.throws(() => (y.grad = x), DisposedError);
    assert.throws(() => y.to(x), DisposedError);
    assert.equal(inspect(x), 'Tensor(disposed)');
  });

  it('is an error by a stale handle whose slot was used again', () => {
    const x = torch.zeros([2]);
    const stale = new Tensor(x.handle);
    x.dispose();
    const next = torch.ones([2]);
    assert.equal(stale.handle % 2 ** 32, next.handle % 2 ** 32);
    assert.throws(() => stale.add(1), DisposedError);
    assert.throws(() => new Tensor(-1).add(1), DisposedError);
    assert.throws(() => new Tensor(NaN).add(1), DisposedError);
    assert.throws(() => new Tensor(2 ** 52 + 99).add(1), DisposedError);
  });

  it('reads its elements as they are when the read is asked for', async () => {
    const x = torch.ones([4]);
    const [data, item, array] = [x.data(), x.at(0).item(), x.toArray()];
    const halves = torch.ones([4], { dtype: 'bfloat16' });
    const widened = halves.data();
    const columns = torch.ones([3, 2]);
    const turned = columns.t().data();
    x.zero_();
    halves.zero_();
    columns.zero_();
    assert.deepEqual(await data, new Float32Array([1, 1, 1, 1]));
    assert.equal(await item, 1);
    assert.deepEqual(await array, [1, 1, 1, 1]);
    assert.deepEqual(await widened, new Float32Array([1, 1, 1, 1]));
    assert.deepEqual(await turned, new Float32Array(6).fill(1));
    const disposed = torch.ones([2]);
    const pending = disposed.data();
    disposed.dispose();
    assert.deepEqual(await pending, new Float32Array([1, 1]));
  });

  it('gives the ends of the 64-bit ranges exactly', () => {
    assert.throws(() => torch.tensor([2n ** 63n - 1n]).itemSync(), /9223372036854775807 is not exact/);
    assert.equal(torch.tensor([-(2n ** 63n)]).itemSync(), -(2 ** 63));
    assert.equal(torch.fromTypedArray(new BigUint64Array([2n ** 63n])).itemSync(), 2 ** 63);
    assert.throws(() => torch.fromTypedArray(new BigUint64Array([2n ** 64n - 1n])).itemSync(), /is not exact/);
  });

  it('refuses what is no tensor, boolean or gradient', () => {
    const x = torch.ones([2], { requiresGrad: true });
    const wrong = x as unknown as Record<string, unknown>;
    assert.throws(() => (wrong.requiresGrad = 1), /requiresGrad is true or false, not 1/);
    assert.throws(() => (wrong.grad = undefined), InvalidArgumentError);
    assert.throws(() => (wrong.grad = [1, 2]), InvalidArgumentError);
    const sum = x.sum() as unknown as { backward(gradient: unknown): void };
    assert.throws(() => {
      sum.backward(null);
    }, /the gradient must be a tensor, not null/);
    assert.throws(() => x.isSame(3 as unknown as Tensor), InvalidArgumentError);
    assert.throws(() => {
      x.setData(undefined as unknown as Tensor);
    }, InvalidArgumentError);
  });

  it('reads and prints gradients that are zeros without memory', async () => {
    const x = torch.ones([2], { requiresGrad: true });
    x.sgn().sum().backward();
    const gradient = x.grad!;
    assert.deepEqual(gradient.dataSync(), new Float32Array(2));
    assert.deepEqual(await gradient.data(), new Float32Array(2));
    assert.deepEqual(gradient.bytesSync(), new Uint8Array(8));
    assert.equal(gradient.at(0).itemSync(), 0);
    assert.equal(String(gradient), 'tensor([0., 0.])');
  });
});
