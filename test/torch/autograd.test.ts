import assert from 'node:assert/strict';
import {
  autocast,
  enableGrad,
  grad,
  inferenceMode,
  isGradEnabled,
  isInferenceMode,
  noGrad,
  ops,
  scope,
  slice,
  torch,
  TorchError,
  type Tensor,
} from '../../src/torch';

describe('autograd', () => {
  const leaf = (numbers: number[]): Tensor => torch.tensor(numbers, { dtype: 'float64', requiresGrad: true });

  it('accumulates in leaves, and clears', () => {
    const x = leaf([1, 2]);
    assert.equal(x.grad, null);
    x.mul(x).sum().backward();
    x.mul(3).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [5, 7]);
    x.grad = null;
    assert.equal(x.grad, null);
    x.grad = torch.ones([2], { dtype: 'float64' });
    assert.deepEqual(x.grad!.toArraySync(), [1, 1]);
    assert.throws(() => (x.grad = torch.ones([3], { dtype: 'float64' })), /shape, dtype and device/);
    assert.equal(x.isLeaf, true);
    assert.equal(x.mul(2).isLeaf, false);
  });

  it('names the function by which gradients flow on', () => {
    const x = leaf([1, 2]);
    assert.equal(x.gradFn, null);
    assert.equal(torch.ones([2]).gradFn, null);
    assert.equal(x.add(x).gradFn, 'AddBackward0');
    assert.equal(x.mul(x).detach().gradFn, null);
    const changed = x.clone();
    const view = changed.select(0, 0);
    assert.equal(view.gradFn, 'SelectBackward0');
    view.mul_(2);
    assert.deepEqual([changed.gradFn, view.gradFn], ['CopySlices', 'AsStridedBackward0']);
    // As PyTorch prints a view that cannot tell, since it was made without gradients.
    const unclear = noGrad(() => changed.select(0, 1));
    changed.mul_(2);
    assert.equal(unclear.gradFn, 'Invalid');
    assert.equal(String(unclear), 'tensor(4., dtype=torch.float64, grad_fn=<Invalid>)');
  });

  it('takes a gradient for several elements and refuses to guess it', () => {
    const x = leaf([1, 2]);
    x.mul(x).backward(torch.tensor([10, 100], { dtype: 'float64' }));
    assert.deepEqual(x.grad!.toArraySync(), [20, 400]);
    assert.throws(() => x.mul(x).backward(), TorchError);
    assert.throws(() => torch.ones([1]).backward(), /does not require grad/);
  });

  it('frees the graph unless told to retain it', () => {
    const x = leaf([3]);
    const y = x.mul(x).sum();
    y.backward(undefined, { retainGraph: true });
    y.backward();
    assert.deepEqual(x.grad!.toArraySync(), [12]);
    assert.throws(() => y.backward(), /second time/);
  });

  it('accumulates in given inputs only', () => {
    const [x, y] = [leaf([2]), leaf([5])];
    x.mul(y)
      .sum()
      .backward(undefined, { inputs: [x] });
    assert.deepEqual(x.grad!.toArraySync(), [5]);
    assert.equal(y.grad, null);
  });

  it('gives gradients of gradients', () => {
    const x = leaf([2]);
    const [first] = grad(x.pow(3).sum(), x, { createGraph: true });
    const [second] = grad(first!.sum(), x);
    assert.deepEqual(first!.toArraySync(), [12]);
    assert.deepEqual(second!.toArraySync(), [12]);
    assert.equal(x.grad, null);
  });

  it('grad: weights by gradOutputs, null for unused inputs when allowed', () => {
    const [x, y] = [leaf([1, 2]), leaf([3])];
    const [weighted] = grad(x.mul(2), x, { gradOutputs: [torch.tensor([1, 10], { dtype: 'float64' })] });
    assert.deepEqual(weighted!.toArraySync(), [2, 20]);
    assert.deepEqual(grad(x.sum(), [y], { allowUnused: true }), [null]);
    assert.throws(() => grad(x.sum(), [y]), TorchError);
  });

  it('records by mode, and restores the mode after errors', () => {
    const x = leaf([1]);
    noGrad(() => {
      assert.equal(isGradEnabled(), false);
      assert.equal(x.mul(2).requiresGrad, false);
      enableGrad(() => {
        assert.equal(x.mul(2).requiresGrad, true);
      });
      assert.equal(isGradEnabled(), false);
    });
    assert.throws(() =>
      noGrad(() => {
        throw new Error('stop');
      }),
    );
    assert.equal(isGradEnabled(), true);
    const made = inferenceMode(() => {
      assert.equal(isInferenceMode(), true);
      return inferenceMode(() => x.mul(2));
    });
    assert.equal(isInferenceMode(), false);
    assert.throws(() => made.mul(x), /[Ii]nference/);
    assert.equal(x.detach().requiresGrad, false);

    assert.throws(() => noGrad(async () => x.mul(2)), /noGrad takes a synchronous callback/);
    assert.equal(isGradEnabled(), true);
  });

  it('casts matrix products to bfloat16 under autocast, and sees later weights', () => {
    const weight = torch.ones([4, 4], { requiresGrad: true });
    const input = torch.ones([4, 4]);
    const run = (): Tensor => autocast({ dtype: 'bfloat16' }, () => input.matmul(weight));
    const first = run();
    assert.equal(first.dtype, 'bfloat16');
    first.sum().backward();
    assert.equal(weight.grad!.dtype, 'float32');
    noGrad(() => weight.add_(1));
    assert.equal(run().at(0, 0).itemSync(), 8);
    autocast({}, () => {
      assert.equal(autocast({ enabled: false }, () => input.matmul(weight)).dtype, 'float32');
      assert.equal(input.matmul(weight).dtype, 'bfloat16');
    });
    assert.equal(input.matmul(weight).dtype, 'float32');
  });

  it('knows the views of a tensor that needed no gradient when they were made', () => {
    scope(() => {
      for (const view of [
        (x: Tensor) => x.view([4]),
        (x: Tensor) => x.transpose(0, 1),
        (x: Tensor) => x.at(1),
        (x: Tensor) => x.at(slice(0, 1)),
        (x: Tensor) => x.permute([1, 0]),
        (x: Tensor) => x.unsqueeze(0),
      ]) {
        const x = torch.zeros([2, 2]);
        const part = view(x);
        const w = torch.tensor(2).requiresGrad_();
        part.add_(w);
        assert.equal(x.requiresGrad, true);
        x.sum().backward();
        assert.equal(w.grad!.itemSync(), part.numel());
      }
    });
  });

  it('counts changes of tensors that need no gradient, and refuses what they spoil', () => {
    scope(() => {
      const x = torch.ones([3]);
      const w = torch.ones([3]).requiresGrad_();
      const product = w.mul(x);
      x.add_(1);
      assert.throws(() => product.sum().backward(), /modified by an inplace operation/);
    });
  });

  it('records from the first tensor on that needs a gradient, in any place of a call', () => {
    scope(() => {
      const w = torch.ones([2]).requiresGrad_();
      const x = torch.ones([2]);
      assert.equal(x.add(x).requiresGrad, false);
      assert.equal(x.add(w).requiresGrad, true);
      assert.equal(torch.cat([x, w]).requiresGrad, true);
      assert.equal(torch.where(torch.tensor([true, false]), x, w).requiresGrad, true);
      assert.equal(x.clone().mul_(w).requiresGrad, true);
      assert.equal(noGrad(() => x.add(w)).requiresGrad, false);
    });
  });

  it('agrees with finite differences through a convolution', () => {
    const x = torch.randn([1, 2, 5, 5], { dtype: 'float64', requiresGrad: true });
    const weight = torch.randn([3, 2, 3, 3], { dtype: 'float64' });
    const f = (input: Tensor): Tensor => torch.conv2d(input, weight, null, [1, 1], [1, 1]).tanh().sum();
    f(x).backward();
    const analytic = x.grad!.flatten().dataSync();
    const epsilon = 1e-6;
    for (const position of [0, 7, 24, 33, 49]) {
      const nudge = torch.zeros([50], { dtype: 'float64' });
      ops.aten!.index_fill_!(nudge, 0, torch.tensor([BigInt(position)]), epsilon);
      const step = nudge.reshape([1, 2, 5, 5]);
      const numeric = noGrad(
        () =>
          f(x.add(step))
            .sub(f(x.sub(step)))
            .itemSync() /
          (2 * epsilon),
      );
      assert.ok(Math.abs(numeric - Number(analytic[position])) < 1e-7);
    }
  });

  it('says that an async callback cannot run in a mode, and leaves no rejection behind', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
      assert.throws(() => noGrad(() => Promise.reject(new Error('later'))), /synchronous callback/);
      await new Promise((resolve) => setTimeout(resolve, 10));
      assert.deepEqual(unhandled, []);
    } finally {
      process.off('unhandledRejection', note);
    }
    assert.throws(() => autocast((() => 1) as never, undefined as never), /autocast takes options and a callback/);
  });
});
