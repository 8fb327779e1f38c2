import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Parameter } from '../../src/nn';
import { clipGradientNorm } from '../../src/optim';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';

describe('clipGradientNorm', () => {
  const set = golden('optimizers');
  const parameters = () =>
    [0, 1, 2].map((index) => {
      const parameter = new Parameter(set.tensors[`start.${index}`]!.clone());
      parameter.grad = set.tensors[`gradient.0.${index}`]!.clone();
      return parameter;
    });

  for (const [name, normType] of Object.entries({ 1: 1, 2: 2, inf: Infinity })) {
    it(`equals PyTorch for the norm of order ${name}`, () => {
      const clipped = parameters();
      assertClose(clipGradientNorm(clipped, 1.5, { normType }), set.tensors[`clip.${name}.norm`]!);
      clipped.forEach((parameter, index) => assertClose(parameter.grad!, set.tensors[`clip.${name}.${index}`]!));
    });
  }

  it('leaves small gradients and parameters without one alone', () => {
    const [first, second] = parameters() as [Parameter, Parameter];
    second.grad = null;
    const before = numbers(first.grad!);
    clipGradientNorm([first, second], 1e6);
    assert.deepEqual(numbers(first.grad!), before);
    assert.equal(clipGradientNorm([second], 1).itemSync(), 0);
  });

  it('refuses a norm that is not finite, if asked to, before anything changes', () => {
    const [parameter] = parameters() as [Parameter];
    parameter.grad = torch.full([3, 4], NaN, { device });
    assert.throws(() => clipGradientNorm([parameter], 1, { errorIfNonfinite: true }), /norm of the gradients is NaN/);
    assert.throws(() => clipGradientNorm([parameter], -1), /maxNorm must be a number of at least 0/);
  });
});
