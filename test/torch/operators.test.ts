import assert from 'node:assert/strict';
import {
  dispose,
  hasOperator,
  InvalidArgumentError,
  operatorSchemas,
  ops,
  Tensor,
  torch,
  TorchError,
  TorchTypeError,
} from '../../src/torch';

describe('operators', () => {
  const x = torch.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);

  it('chooses the overload that fits the arguments', () => {
    assert.deepEqual(x.add(1).toArraySync(), [
      [2, 3, 4],
      [5, 6, 7],
    ]);
    assert.deepEqual(x.add(x, { alpha: 2 }).at(0).toArraySync(), [3, 6, 9]);
    assert.deepEqual(x.sum().toArraySync(), 21);
    assert.deepEqual(x.sum([0]).toArraySync(), [5, 7, 9]);
    assert.deepEqual(x.sum(1, true).shape, [2, 1]);
    assert.deepEqual(x.sum(null, { keepdim: true }).shape, [1, 1]);
    assert.deepEqual(x.max().itemSync(), 6);
    const [values, indices] = x.max(1);
    assert.deepEqual(values.toArraySync(), [3, 6]);
    assert.deepEqual(indices.toArraySync(), [2n, 2n]);
    assert.deepEqual(
      x
        .max(torch.full([2, 3], 4))
        .at(0)
        .toArraySync(),
      [4, 4, 4],
    );
  });

  it('keeps integers apart from numbers with a fraction', () => {
    const counts = torch.arange(3);
    assert.equal(counts.add(1).dtype, 'int64');
    assert.equal(counts.add(1.5).dtype, 'float32');
    assert.equal(counts.mul(2n).dtype, 'int64');
    assert.deepEqual(counts.add(2n ** 60n).toArraySync(), [2n ** 60n, 2n ** 60n + 1n, 2n ** 60n + 2n]);
    assert.equal(counts.eq(1).dtype, 'bool');
  });

  it('tells dtypes, devices and other strings apart', () => {
    assert.equal(x.to('float64').dtype, 'float64');
    assert.equal(x.to('cpu').dtype, 'float32');
    assert.deepEqual(torch.div(x, 2, { roundingMode: 'floor' }).at(1).toArraySync(), [2, 2, 3]);
    assert.deepEqual(torch.einsum('ij->j', [x]).toArraySync(), [5, 7, 9]);
    assert.equal(torch.zeros([1, 2, 2, 2]).contiguous({ memoryFormat: 'channels_last' }).strides[1], 1);
    assert.equal(torch.zeros([2], { device: 'meta' }).device, 'meta');
  });

  it('takes one number where a fixed-size list is wanted', () => {
    const image = torch.arange(16).reshape([1, 1, 4, 4]).to('float32');
    assert.deepEqual(torch.maxPool2d(image, 2).toArraySync(), [
      [
        [
          [5, 7],
          [13, 15],
        ],
      ],
    ]);
  });

  it('takes lists of tensors, with and without nulls, and empty lists', () => {
    assert.deepEqual(torch.cat([x, x], 1).shape, [2, 6]);
    assert.deepEqual(torch.stack([x, x]).shape, [2, 2, 3]);
    const picked = ops.aten!.index!(x, [null, torch.tensor([0n, 2n])]) as Tensor;
    assert.deepEqual(picked.toArraySync(), [
      [1, 3],
      [4, 6],
    ]);
    assert.deepEqual(torch.zeros([]).shape, []);
    assert.deepEqual(torch.linspace(0, 1, 3).toArraySync(), [0, 0.5, 1]);
    assert.throws(() => torch.cat([]), TorchError);
  });

  it('gives lists, tuples, booleans and complex numbers back', () => {
    const parts = x.split(2, 1);
    assert.deepEqual(
      parts.map((part) => part.shape),
      [
        [2, 2],
        [2, 1],
      ],
    );
    assert.equal(x.equal(x), true);
    assert.equal(x.equal(x.add(1)), false);
    assert.deepEqual(x.varMean().length, 2);
    assert.deepEqual(torch.full([1], { re: 1, im: -2 }).dataSync(), new Float32Array([1, -2]));
  });

  it('changes in place and gives a fresh handle', () => {
    const y = torch.zeros([2]);
    const result = y.add_(3);
    assert.deepEqual(y.toArraySync(), [3, 3]);
    assert.notEqual(result.handle, y.handle);
    assert.equal(result.isSame(y), true);
  });

  it('gives a fresh handle when LibTorch returns its input', () => {
    const same = x.contiguous();
    assert.equal(same.isSame(x), true);
    same.dispose();
    assert.equal(x.sum().itemSync(), 21);
  });

  it('opens the raw table with every overload', () => {
    const expected = x.logSoftmax(1).dataSync();
    assert.deepEqual((ops.aten!.log_softmax!.int!(x, 1) as Tensor).dataSync(), expected);
    assert.deepEqual((ops.aten!._log_softmax!(x, 1, false) as Tensor).dataSync(), expected);
    assert.deepEqual((ops.aten!.sum!.default!(x) as Tensor).itemSync(), 21);
    assert.throws(() => ops.aten!.no_such_operator!(x), /LibTorch has no operator 'aten::no_such_operator'/);
    assert.equal(hasOperator('aten::add'), true);
    assert.equal(hasOperator('aten::no_such_operator'), false);
    assert.ok(operatorSchemas().length > 3000);
  });

  it('says of each overload why it does not fit', () => {
    assert.throws(
      () => (ops.aten!.sum as (...args: unknown[]) => unknown)(x, 'rows'),
      (error: TorchTypeError) => {
        assert.ok(error instanceof TorchTypeError);
        assert.equal(error.code, 'NO_OVERLOAD');
        assert.equal(error.operator, 'aten::sum');
        assert.ok(error.schemas!.some((schema) => schema.startsWith('aten::sum.dim_IntList')));
        assert.match(error.message, /'dim' takes int\[\]\?, not 'rows'/);
        return true;
      },
    );
    const loose = ops.aten! as unknown as Record<string, (...args: unknown[]) => unknown>;
    assert.throws(() => loose.relu!(x, { alpa: 1 }), /it has no argument 'alpa'/);
    assert.throws(() => loose.relu!(x, 1, 2), /it takes 1 positional arguments, not 3/);
    assert.throws(() => loose.matmul!(x), /'other' is missing/);
    assert.throws(() => loose.matmul!(x, () => x), /a function is no argument/);
    assert.throws(() => loose.cat!([x, 1]), /a list mixes a number and a tensor/);
    assert.throws(() => loose.softmax!(x, 1, { dim: 0 }), /'dim' is given twice/);
  });

  it("keeps LibTorch's message without its C++ trace", () => {
    assert.throws(
      () => x.matmul(x),
      (error: TorchError) =>
        error instanceof TorchError &&
        error.operator === 'aten::matmul' &&
        error.message === 'aten::matmul: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)' &&
        error.schemas?.join() === 'aten::matmul(Tensor self, Tensor other) -> Tensor',
    );
  });

  it('agrees between the direct and the boxed call', () => {
    // A double in a tensor's place forces the boxed call of the same overload.
    const direct = x.add(torch.full([], 1.5)).dataSync();
    const boxed = (ops.aten!.add!.Tensor!(x, 1.5) as Tensor).dataSync();
    assert.deepEqual(direct, boxed);
    assert.deepEqual(x.rsub(2, 3).dataSync(), x.mul(-3).add(2).dataSync());
  });

  it('turns a warning of LibTorch into one of Node', async () => {
    // One that LibTorch gives every time, not once a process.
    const warning = new Promise<Error & { code?: string }>((resolve) => {
      const note = (given: Error & { code?: string }): void => {
        if (!given.message.includes('indexing with dtype')) return;
        process.off('warning', note);
        resolve(given);
      };
      process.on('warning', note);
    });
    torch.ones([2]).index([torch.ones([2], { dtype: 'uint8' })]);
    const { name, code } = await warning;
    assert.equal(name, 'LibTorchWarning');
    assert.equal(code, 'LIBTORCH');
  });

  it('refuses bigints beyond 64 bits', () => {
    const x = torch.ones([1], { dtype: 'int64' });
    assert.throws(() => x.add(2n ** 63n), /9223372036854775808 does not fit 64 bits/);
    assert.throws(() => x.add(2n ** 64n), InvalidArgumentError);
    assert.equal(x.mul(-(2n ** 63n)).dataSync()[0], -(2n ** 63n));
  });

  it('names what a list mixes', () => {
    const x = torch.ones([1]);
    const cat = torch.cat as unknown as (list: unknown[]) => unknown;
    assert.throws(() => cat([1, x]), /a list mixes a number and a tensor/);
    assert.throws(() => cat([x, 1]), /a list mixes a number and a tensor/);
    assert.throws(() => cat([1, true]), /a list mixes a number and a boolean/);
    assert.throws(() => cat([null, 1]), /'tensors' takes Tensor\[\], not a list of mixed items/);
  });

  it('takes back results of any length', () => {
    const parts = torch.zeros([150_000]).split(1);
    assert.equal(parts.length, 150_000);
    assert.equal(parts[149_999]!.numel(), 1);
    dispose(parts);
  });

  it('leaves out of an error what does not belong to it', () => {
    assert.deepEqual(Object.keys(new InvalidArgumentError('no')).sort(), ['code', 'name']);
  });
});
