import assert from 'node:assert/strict';
import {
  defineFunction,
  DisposedError,
  dispose,
  enableGrad,
  grad,
  gradcheck,
  gradgradcheck,
  InvalidArgumentError,
  isGradEnabled,
  memory,
  noGrad,
  scope,
  torch,
  TorchError,
  type Tensor,
} from '../../src/torch';
import { device } from '../support/device';

const leaf = (numbers: number[]): Tensor => torch.tensor(numbers, { dtype: 'float64', requiresGrad: true, device });

const cube = defineFunction({
  name: 'cube',
  forward(context, x: Tensor) {
    context.save(x);
    return x.pow(3);
  },
  backward(context, gradient) {
    return gradient.mul(context.saved[0]!.square()).mul(3);
  },
});

/** exp, with its output saved. */
const exponential = defineFunction({
  name: 'exponential',
  forward(context, x: Tensor) {
    const y = x.exp();
    context.save(y);
    return y;
  },
  backward: (context, gradient) => gradient.mul(context.saved[0]!),
});

describe('defineFunction', () => {
  it('differentiates as its backward says, once and twice', () => {
    const x = leaf([1, -2, 3]);
    cube(x).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [3, 12, 27]);
    gradcheck(cube, [x]);
    gradgradcheck(cube, [x]);
    gradcheck(exponential, [x]);
    gradgradcheck(exponential, [x]);
    const [first] = grad(cube(x).sum(), x, { createGraph: true });
    const [second] = grad(first!.sum(), x);
    assert.deepEqual(second!.toArraySync(), [6, -12, 18]);
  });

  it('is named in the graph', () => {
    const y = cube(leaf([2]));
    assert.equal(y.gradFn, 'cubeBackward');
    assert.match(String(y), /grad_fn=<cubeBackward>\)$/);
    y.backward();
    assert.equal(y.gradFn, 'cubeBackward');
  });

  it('takes other arguments, hands on state, and gives several outputs', () => {
    const parts = defineFunction({
      name: 'parts',
      forward(context: { state: number; needsGradient: readonly boolean[] }, x: Tensor, factor: number, y: Tensor) {
        context.state = factor;
        assert.deepEqual(context.needsGradient, [true, false, false]);
        return [x.mul(factor), x.add(y)] as const;
      },
      backward: (context: { state: number }, first: Tensor, second: Tensor) => [
        first.mul(context.state).add(second),
        null,
        null,
      ],
    });
    const x = leaf([1, 2]);
    const [scaled, shifted] = parts(x, 5, torch.ones([2], { dtype: 'float64', device }));
    assert.deepEqual(scaled.toArraySync(), [5, 10]);
    assert.deepEqual(shifted.toArraySync(), [2, 3]);
    scaled.sum().add(shifted.mul(2).sum()).backward();
    assert.deepEqual(x.grad!.toArraySync(), [7, 7]);
    // The gradient of an output that was not used is zero.
    x.grad = null;
    parts(x, 5, torch.ones([2], { dtype: 'float64', device }))[1]
      .sum()
      .backward();
    assert.deepEqual(x.grad!.toArraySync(), [1, 1]);
  });

  it('records nothing where nothing needs it, and runs forward without recording', () => {
    let wasRecording: boolean | undefined;
    const noting = defineFunction({
      name: 'noting',
      forward(_context, x: Tensor) {
        wasRecording = isGradEnabled();
        return x.mul(2);
      },
      backward: (_context, gradient) => gradient.mul(2),
    });
    assert.equal(noting(leaf([1])).requiresGrad, true);
    assert.equal(wasRecording, false);
    assert.equal(noting(torch.ones([1], { device })).requiresGrad, false);
    assert.equal(noGrad(() => noting(leaf([1]))).requiresGrad, false);
  });

  it('may change an input in place, or give it back', () => {
    const double_ = defineFunction({
      name: 'double_',
      forward(context, x: Tensor) {
        context.markDirty(x);
        return x.mul_(2);
      },
      backward: (_context, gradient) => gradient.mul(2),
    });
    const x = leaf([1, 2]);
    const y = x.add(0);
    const z = double_(y);
    assert.deepEqual(y.toArraySync(), [2, 4]);
    z.sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [2, 2]);
    const reverse = defineFunction({
      name: 'reverse',
      forward: (_context, input: Tensor) => input,
      backward: (_context, gradient) => gradient.neg(),
    });
    x.grad = null;
    reverse(x).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [-1, -1]);
  });

  it('may give a result in another shape, which can be changed in place', () => {
    /** exp by rows, in a shape of its own, with its output saved. */
    const folded = defineFunction({
      name: 'folded',
      forward(context, x: Tensor) {
        const y = x.exp().view([2, 2]).t();
        context.save(y);
        return y;
      },
      backward: (context, gradient) => gradient.mul(context.saved[0]!).t().reshape([4]),
    });
    const [x, weights] = [
      leaf([1, -2, 3, 0]),
      torch.tensor(
        [
          [1, 2],
          [3, 4],
        ],
        { dtype: 'float64', device },
      ),
    ];
    gradcheck((input) => folded(input).mul(weights), [x]);
    gradgradcheck((input) => folded(input).mul(weights), [x]);
    const plain = folded(x.detach());
    assert.deepEqual(folded(x).clone().relu_().toArraySync(), plain.relu().toArraySync());
    const free = defineFunction({
      name: 'free',
      forward: (_, input: Tensor) => input.mul(2).view([2, 2]),
      backward: (_, gradient) => gradient.mul(2).view([4]),
    });
    free(x).relu_().mul(weights).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [2, 0, 6, 0]);
    // What was saved knows that its memory was changed; and a view of an input, or one of two of the same memory, is still one.
    const changed = folded(x).add_(1);
    assert.throws(() => changed.sum().backward(), /modified by an inplace operation/);
    const halves = defineFunction({
      name: 'halves',
      forward: (_, input: Tensor): [Tensor, Tensor] => input.mul(1).split(2) as [Tensor, Tensor],
      backward: (_, first, second) => torch.cat([first, second]),
    });
    assert.throws(() => halves(x)[0].relu_(), /is a view and is being modified inplace/);
  });

  it('marks outputs through which nothing flows', () => {
    const withIndex = defineFunction({
      name: 'withIndex',
      forward(context, x: Tensor) {
        const index = x.argmax();
        context.markNonDifferentiable(index);
        return [x.mul(1), index] as const;
      },
      backward: (_context, gradient) => gradient,
    });
    const [y, index] = withIndex(leaf([1, 5, 2]));
    assert.equal(y.requiresGrad, true);
    assert.equal(index.requiresGrad, false);
    assert.equal(index.itemSync(), 1);
  });

  it('refuses to go on when a saved tensor was changed', () => {
    const x = leaf([1, 2]);
    const y = x.mul(1);
    const z = cube(y);
    y.add_(1);
    assert.throws(() => {
      z.sum().backward();
    }, /modified by an inplace operation/);
  });

  it('passes on what either pass throws, by itself', () => {
    const wrong = new RangeError('mine');
    const failing = defineFunction({
      name: 'failing',
      forward(_context, x: Tensor, now: boolean) {
        if (now) throw wrong;
        return x.mul(2);
      },
      backward() {
        throw wrong;
      },
    });
    assert.throws(
      () => failing(leaf([1]), true),
      (error) => error === wrong,
    );
    assert.throws(
      () => {
        failing(leaf([1]), false)
          .sum()
          .backward();
      },
      (error) => error === wrong,
    );
  });

  it('says what is wrong with the results of either pass', () => {
    const make = (backward: () => unknown, forward: (x: Tensor) => unknown = (x) => x.mul(2)): (() => void) => {
      const f = defineFunction({
        name: 'odd',
        forward: (_context, x: Tensor) => forward(x) as Tensor,
        backward: backward as () => null,
      });
      return () => {
        f(leaf([1, 2]))
          .sum()
          .backward();
      };
    };
    assert.throws(
      make(() => 3),
      /odd: gradient 0 must be a tensor, not 3/,
    );
    assert.throws(
      make(() => [null, null]),
      /odd: backward gave 2 gradients for 1 arguments/,
    );
    assert.throws(
      make(() => torch.ones([3], { device })),
      TorchError,
    );
    assert.throws(
      make(
        () => null,
        () => 'no',
      ),
      /odd: an output of forward must be a tensor, not 'no'/,
    );
    assert.throws(
      make(
        () => null,
        () => {
          const x = torch.ones([1]);
          x.dispose();
          return x;
        },
      ),
      DisposedError,
    );
    assert.throws(() => cube(leaf([1]).dispose() as never), TypeError);
    let context: { saved: unknown } | undefined;
    defineFunction({
      name: 'leaky',
      forward(given: { saved: unknown }, x: Tensor) {
        context = given;
        return x.mul(1);
      },
      backward: () => null,
    })(leaf([1]));
    assert.throws(() => context!.saved, InvalidArgumentError);
  });

  it('may run a backward pass inside one', () => {
    const nested = defineFunction({
      name: 'nested',
      forward(context, x: Tensor) {
        context.save(x);
        return x.pow(3);
      },
      backward(context, gradient) {
        const again = context.saved[0]!.detach().requiresGrad_();
        // A backward pass records nothing of itself.
        enableGrad(() => {
          cube(again).sum().backward();
        });
        return gradient.mul(again.grad!);
      },
    });
    const x = leaf([1, 2]);
    nested(x).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [3, 12]);
  });

  it('may nest passes deeper than LibTorch keeps them on one thread', () => {
    let depth = 0;
    const nested = defineFunction({
      name: 'nested',
      forward(context, x: Tensor) {
        context.save(x);
        return x.mul(1);
      },
      backward(context, gradient) {
        if (++depth === 100) return gradient;
        const again = context.saved[0]!.detach().requiresGrad_();
        enableGrad(() => {
          nested(again).sum().backward();
        });
        return gradient.add(again.grad!);
      },
    });
    const x = leaf([1]);
    nested(x).sum().backward();
    assert.deepEqual(x.grad!.toArraySync(), [100]);
  });

  it('may start a pass beside the event loop inside one, through the same graph', async () => {
    let started: Promise<void> | undefined;
    const first = leaf([2]);
    const inner = cube(first).sum();
    const starting = defineFunction({
      name: 'starting',
      forward: (_context, x: Tensor) => x.mul(1),
      backward(_context, gradient) {
        started ??= inner.backwardAsync(undefined, { retainGraph: true });
        // Time for the other pass to reach the function that this one comes to next, if it could.
        const end = performance.now() + 30;
        while (performance.now() < end);
        return gradient;
      },
    });
    starting(inner).backward(undefined, { retainGraph: true });
    assert.deepEqual(first.grad!.toArraySync(), [12]);
    await started;
    assert.deepEqual(first.grad!.toArraySync(), [24]);
  });

  it('serves a backward pass beside the event loop, also while another one is waited for', async () => {
    const x = leaf([1, 2]);
    const pending = cube(x).sum().backwardAsync();
    const y = leaf([3]);
    cube(y).sum().backward();
    assert.deepEqual(y.grad!.toArraySync(), [27]);
    await pending;
    assert.deepEqual(x.grad!.toArraySync(), [3, 12]);
  });

  it('keeps nothing alive: not what it saved, not its graph', () => {
    const before = memory();
    const x = torch.ones([1 << 16], { requiresGrad: true });
    for (let i = 0; i < 40; i++) {
      scope(() => {
        // Every second graph is thrown away without a backward pass.
        const y = exponential(x).sum();
        if (i % 2 === 0) y.backward();
        x.grad = null;
      });
    }
    dispose(x);
    const after = memory();
    assert.equal(after.liveTensors, before.liveTensors);
    assert.equal(after.cpuBytes, before.cpuBytes);
  });
});
