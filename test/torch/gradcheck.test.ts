import assert from 'node:assert/strict';
import {
  defineFunction,
  gradcheck,
  GradcheckError,
  gradgradcheck,
  InvalidArgumentError,
  torch,
  type Tensor,
} from '../../src/torch';

const leaf = (shape: number[]): Tensor => torch.randn(shape, { dtype: 'float64', requiresGrad: true });

/** x², whose backward is off by a factor that is 1 at first. */
const square = (first: number, second: number): ((x: Tensor) => Tensor) =>
  defineFunction({
    name: 'square',
    forward(context, x: Tensor) {
      context.save(x);
      return x.square();
    },
    backward: (context, gradient) => {
      const [x] = context.saved as readonly [Tensor];
      // Equal in value to x · second, with another derivative.
      const twisted = x.detach().mul(second).add(x.sub(x.detach()).mul(first));
      return gradient.mul(twisted);
    },
  });

describe('gradcheck', () => {
  it('accepts true gradients of several inputs and outputs', () => {
    gradcheck((a, b) => [a.matmul(b), a.sin()], [leaf([3, 4]), leaf([4, 2])]);
    gradgradcheck((a, b) => a.matmul(b).tanh(), [leaf([2, 3]), leaf([3, 2])]);
    gradcheck((a) => [a.exp(), a.argmax()], [leaf([5])]);
  });

  it('finds a wrong first or second derivative, and names the place', () => {
    const x = torch.tensor([1, 2, 3], { dtype: 'float64', requiresGrad: true });
    gradcheck(square(2, 2), [x]);
    gradgradcheck(square(2, 2), [x]);
    assert.throws(() => {
      gradcheck(square(2, 2.01), [x]);
    }, GradcheckError);
    gradcheck(square(1, 2), [x]);
    assert.throws(() => {
      gradgradcheck(square(1, 2), [x]);
    }, /the gradient of input 0 at 0 is/);
    // A dependence that the graph does not show.
    assert.throws(() => {
      gradcheck((a) => a.mul(a.detach()), [x]);
    }, GradcheckError);
    assert.deepEqual(x.toArraySync(), [1, 2, 3], 'the inputs are as they were');
  });

  it('refuses inputs that it cannot probe', () => {
    const f = (x: Tensor): Tensor => x.mul(2);
    assert.throws(() => {
      gradcheck(f, []);
    }, /at least one input/);
    assert.throws(() => {
      gradcheck(f, [torch.ones([1], { requiresGrad: true })]);
    }, /input 0 must be float64, not float32/);
    assert.throws(() => {
      gradcheck(f, [torch.ones([1], { dtype: 'float64' })]);
    }, InvalidArgumentError);
    assert.throws(() => {
      gradcheck(() => torch.ones([1]), [leaf([1])]);
    }, /no output depends on an input/);
  });
});
